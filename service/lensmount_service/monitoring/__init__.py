"""What a server tells its operator: figures read for each request of /metrics, and the use of each adapter."""
