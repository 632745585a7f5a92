"""Which images belong to one patient, slide or source, by their names."""
