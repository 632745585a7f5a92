"""What a client offers: adapters, datasets, jobs, one job."""
