"""One process that trains: worker, attempt, heartbeat, server client, gate, settings."""
