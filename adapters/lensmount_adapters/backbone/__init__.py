"""The frozen network: where it comes from, what it is, and its pristine copy."""
