"""What several benchmarks share: the machine's description, result tables, processes, contenders and tasks."""
