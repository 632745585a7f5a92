"""Put one adapter at a time into the live weights and take it out again, exactly."""
