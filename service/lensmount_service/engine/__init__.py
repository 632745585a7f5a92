"""The one owner of the backbone: its queue and its thread."""
