"""What is kept: database, registry, blobs, catalog, datasets, uploads."""
