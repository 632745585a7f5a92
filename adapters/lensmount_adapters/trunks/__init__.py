"""The frozen part of the backbone before a cut: what identifies its output, and its int8 form."""
