"""The routes: each reads a request, calls the engine or a store, and answers."""
