"""Load on a running server, and its summary."""
