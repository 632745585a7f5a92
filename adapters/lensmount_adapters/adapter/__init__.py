"""One adapter file: manifest, header, admission, head."""
