"""A zip file as a hostile client may write it: its names, its directory and its entries, checked before use."""
