"""Every endpoint: arguments to a call, a response to a value."""
