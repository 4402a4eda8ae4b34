"""All systems, by what they are compared at, and the one that the README recommends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.scenarios.keyed_product import ITEMS
from benchmarks.systems.bare import BARE, bare_system
from benchmarks.systems.celery_batches import CELERY_BATCHES
from benchmarks.systems.sinfer import (
    KEYED_PRODUCT,
    PREFORK_1,
    PREFORK_2,
    THREADS_8,
    sinfer_system,
)
from benchmarks.systems.streamz_loop import STREAMZ

RECOMMENDED = PREFORK_2
"""The worker's set-up that the README recommends for two cores."""

_DURABLE = {"source": {"durable": "bench"}}
_DONE = {"source": {"durable": "bench", "ack": "done"}}

DURABLE = sinfer_system("sinfer-durable", changes=_DURABLE)
DONE = sinfer_system("sinfer-durable-done", changes=_DONE)
WORK_QUEUE = sinfer_system("sinfer-work-queue", changes=_DURABLE, work_queue=True)

SOURCE_MODES = (PREFORK_2, DURABLE, DONE, WORK_QUEUE)
"""Each way to read a stream: by position, and those that acknowledge."""

PACKED = 64
"""Windows that share a call."""
_CALLS_AT_ONCE = "16"

KEYED = sinfer_system("sinfer-keyed", product=KEYED_PRODUCT, items=ITEMS)
OLD_KEYED = "sinfer-keyed-old"
"""The name of the former as another commit has it: see ``harness/old_commit.py``."""
KEYED_SHARED = sinfer_system(
    "sinfer-keyed-shared",
    product=KEYED_PRODUCT,
    items=ITEMS,
    changes={"inference": {"share_calls": PACKED * ITEMS}},
)
BARE_KEYED = bare_system(
    "bare-keyed", "--keyed", "--plain", "--at-once", _CALLS_AT_ONCE, items=ITEMS
)
BARE_PACKED = bare_system(
    "bare-keyed-packed", "--keyed", "--plain", "--pack", str(PACKED), items=ITEMS
)

FEW = 10
"""Messages in a window of the scenarios of latency and of the slow model."""
RATE = 1_000.0
"""Messages a second, where latencies are measured."""
_FEW: Mapping[str, Any] = {"window": {"type": "count", "count": FEW}}

LATENCY = sinfer_system("sinfer-latency", changes=_FEW, items=FEW, rate=RATE)
BARE_LATENCY = bare_system("bare-latency", items=FEW, rate=RATE)

MODEL_MS = 50.0
"""How long the slow model takes for a call, milliseconds."""
_SLOW: Mapping[str, Any] = {"changes": _FEW, "items": FEW, "model_ms": MODEL_MS}

SLOW_MODEL_1 = sinfer_system("sinfer-slow-model-1", concurrency=1, **_SLOW)
SLOW_MODEL_2 = sinfer_system("sinfer-slow-model-2", concurrency=2, **_SLOW)
BARE_SLOW_MODEL = bare_system(
    "bare-slow-model",
    "--at-once",
    "64",
    items=FEW,
    model_ms=MODEL_MS,
    changes={"inference": {"max_concurrency": 64}},
)

WINDOWS_OF_100 = (
    BARE, STREAMZ, CELERY_BATCHES, PREFORK_1, *SOURCE_MODES, THREADS_8,
)  # fmt: skip
MANY_KEYS = (BARE_PACKED, KEYED_SHARED, BARE_KEYED, KEYED)
STEADY = (BARE_LATENCY, LATENCY)
SLOW_MODEL = (BARE_SLOW_MODEL, SLOW_MODEL_1, SLOW_MODEL_2)
