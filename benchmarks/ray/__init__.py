"""What several engines on Ray Serve cost and survive: each script says what it measures."""
