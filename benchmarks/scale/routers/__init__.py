"""Routers: which server gets the next request for an adapter."""
