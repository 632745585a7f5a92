"""Images with masks: found by folders and names, read as stored, checked before the first step."""
