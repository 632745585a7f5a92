"""The attributes of a client: adapters, datasets, jobs, and the handle on one job."""
