"""One adapter in and out of the live weights, exactly."""
