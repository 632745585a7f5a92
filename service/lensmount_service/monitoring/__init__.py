"""What a server tells its operator: figures that are read when somebody asks for the metrics."""
