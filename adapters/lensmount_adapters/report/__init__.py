"""What is known about an adapter, for people: card, HTML page, tables."""
