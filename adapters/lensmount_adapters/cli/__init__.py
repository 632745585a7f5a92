"""The commands of this package: each parses options, calls a function and prints its result."""
