"""Light ingestors: they move JetStream messages into windows in Redis."""

from __future__ import annotations


def run(product_name: str, task_id: str | None = None) -> None:
    """Ingest a product until SIGTERM or SIGINT; see ``sinfer.ingest.service``."""
    from sinfer.ingest.service import run

    run(product_name, task_id)


__all__ = ["run"]
