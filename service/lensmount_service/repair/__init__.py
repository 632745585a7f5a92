"""Whether what is kept is undamaged and complete, and what can be mended: inventory, check, scrubber, recovery."""
