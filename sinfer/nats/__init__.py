"""NATS and JetStream: the connection, the API, and what travels over the wire."""
