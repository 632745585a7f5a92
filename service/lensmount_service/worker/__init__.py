"""The worker, a process that trains jobs: worker, attempt, heartbeat, server client, gate, settings, supervisor."""
