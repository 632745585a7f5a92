"""The first draft: a head solved in seconds on the features of the frozen network, before any training."""
