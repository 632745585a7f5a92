"""The traced backbone: cut in two, folded, and as a function of its weights."""
