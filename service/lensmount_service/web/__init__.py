"""HTTP words: bodies, schemas, problems, content negotiation, deadlines, OpenAPI."""
