"""Every endpoint: from arguments to a Call, and from its response to a value. Both clients use these."""
