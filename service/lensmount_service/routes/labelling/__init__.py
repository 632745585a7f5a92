"""Routes by which people label images: pools, what to label next, feedback, reviews, and Label Studio's protocol."""
