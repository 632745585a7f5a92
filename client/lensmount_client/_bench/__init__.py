"""Load-test a running server and summarize the result."""
