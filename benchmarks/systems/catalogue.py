"""All systems, and the one that the README recommends."""

from __future__ import annotations

from benchmarks.systems.bare import BARE
from benchmarks.systems.celery_batches import CELERY_BATCHES
from benchmarks.systems.sinfer import PREFORK_1, PREFORK_2, THREADS_8, sinfer_system

__all__ = ["BARE", "CELERY_BATCHES", "KEYED", "RECOMMENDED", "SYSTEMS"]

SYSTEMS = (BARE, CELERY_BATCHES, PREFORK_1, PREFORK_2, THREADS_8)

RECOMMENDED = PREFORK_2
"""The worker's set-up that the README recommends for two cores."""

KEYED = sinfer_system("sinfer-keyed", concurrency=2, product="benchmarks.scenarios.keyed_product")
