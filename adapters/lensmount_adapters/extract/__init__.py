"""A fine-tuned network becomes an adapter: its checkpoint, fitted to a backbone, its change by singular values."""
