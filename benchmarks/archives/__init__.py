"""What an archive costs that is asked again: each script says what it measures."""
