"""HTTP without routes: bodies, schemas, problems, content negotiation, deadlines, OpenAPI."""
