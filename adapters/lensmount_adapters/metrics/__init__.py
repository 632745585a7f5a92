"""How well scores match labels."""
