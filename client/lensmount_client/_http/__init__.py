"""One call from its first attempt to its result, without I/O."""
