"""The options of training runs and of jobs: each one written once, in a table that everything else reads."""
