"""NATS, Redis and a model server inside one Python environment, for demo, development and tests."""
