"""Light ingestors: they move JetStream messages into windows in Redis."""

from sinfer.ingest.service import run

__all__ = ["run"]
