"""The routes: read, ask, answer. What they ask stands in engine/engine.py and store/catalog.py."""
