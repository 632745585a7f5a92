"""A graph compiled for this machine, and which compiler is fastest here."""
