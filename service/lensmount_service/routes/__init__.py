"""The routes: read, ask, answer. What they ask stands in engine.py and catalog.py."""
