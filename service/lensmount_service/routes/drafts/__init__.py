"""POST /datasets/{name}/draft: an adapter in seconds, from the features of the frozen network."""
