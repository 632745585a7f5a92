"""Images that wait for labels, the labels that people give them, and the versions that are made of both."""
