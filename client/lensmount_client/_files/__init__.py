"""Files on this machine: images, adapter files, folders to upload."""
