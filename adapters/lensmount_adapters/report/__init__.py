"""Reports on an adapter for people: card, HTML page, tables."""
