"""Files in an object store, for servers that share a database."""
