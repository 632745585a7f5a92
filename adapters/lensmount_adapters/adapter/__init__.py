"""One adapter file: its manifest, header, head, and the checks that admit it."""
