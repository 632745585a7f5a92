"""What rollouts cost and how soon they decide: each script says what it measures."""
