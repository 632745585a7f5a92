"""Which images are worth a label, and which labels are wrong."""
