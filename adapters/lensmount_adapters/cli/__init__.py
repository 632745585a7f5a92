"""The commands of this package: each is a function with a terminal around it."""
