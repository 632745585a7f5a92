"""A published system: run it and compare its figures with the published ones."""
