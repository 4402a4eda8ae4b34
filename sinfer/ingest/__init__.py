"""Light ingestors: they move JetStream messages into windows in Redis."""
