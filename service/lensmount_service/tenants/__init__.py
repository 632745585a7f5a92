"""What one tenant sees of the stores: its own names and those that are shared, never a key or another's name."""
