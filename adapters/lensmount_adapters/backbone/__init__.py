"""The frozen network: where it comes from, its fingerprint, and its pristine copy."""
