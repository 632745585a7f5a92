"""From the bytes of an image or volume to the network's input."""
