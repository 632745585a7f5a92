"""One call from first attempt to result, without I/O."""
