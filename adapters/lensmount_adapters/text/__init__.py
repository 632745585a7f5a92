"""Classes described in words: the prompts, and the head that starts from their embeddings."""
