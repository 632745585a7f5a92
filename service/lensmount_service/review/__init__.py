"""Reviews of datasets: a process of its own computes one at a time, and a file keeps its result."""
