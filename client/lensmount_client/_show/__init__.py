"""Progress, job board and text for terminals, for the SDK and the command line."""
