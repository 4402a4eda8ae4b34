"""From JetStream to ordered batches, each message exactly once."""
