"""Traces: where the time of a request or a job went, from the client to the worker."""
