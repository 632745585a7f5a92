"""Active learning: which images a person should label next, so that few labels teach the most."""
