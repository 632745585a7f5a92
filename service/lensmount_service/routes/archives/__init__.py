"""Images that are asked again: answers that start at what the trunk gave before."""
