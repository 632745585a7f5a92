"""What an adapter adds to one tensor of the backbone: `live = base + delta`."""
