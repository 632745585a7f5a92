"""Adapters and checkpoints of other tools, read into adapter files of Lensmount, exactly or not at all."""
