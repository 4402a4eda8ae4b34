"""sinfer: one ingestor, one worker in several set-ups, and beat, as separate processes."""

from __future__ import annotations

from typing import Any

from benchmarks.harness.system import System
from sinfer.embedded.services import Place, Service, beat_service, ingest_service, worker_service

PRODUCT = "benchmarks.scenarios.product"
KEYED_PRODUCT = "benchmarks.scenarios.keyed_product"


def sinfer_system(
    name: str, *options: str, concurrency: int = 2, product: str = PRODUCT, **more: Any
) -> System:
    """sinfer with one worker.

    Args:
        name: of the system.
        options: further options of ``celery worker``.
        concurrency: processes or threads of the worker.
        product: the module of the product to ingest.
        more: of the system.
    """

    def services(place: Place) -> list[Service]:
        return [
            worker_service(place, concurrency=concurrency, options=options),
            beat_service(place),
            ingest_service(place, product),
        ]

    return System(name, services, **more)


PREFORK_1 = sinfer_system("sinfer-prefork-1", concurrency=1)
PREFORK_2 = sinfer_system("sinfer-prefork-2", concurrency=2)
THREADS_8 = sinfer_system("sinfer-threads-8", "--pool", "threads", concurrency=8)
