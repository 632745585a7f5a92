"""The durable job table: schema, records, table, files, log, publishing."""
