"""The durable job table: records, schema, client and worker verbs, files, log, publishing."""
