"""Progress, job board and text for terminals; used by the SDK and the command line."""
