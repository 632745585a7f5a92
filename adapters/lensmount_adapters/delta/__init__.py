"""What an adapter adds to one tensor: live = base + delta."""
