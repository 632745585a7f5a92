"""A copy of a server's state that is taken while it runs, and the way back from it."""
