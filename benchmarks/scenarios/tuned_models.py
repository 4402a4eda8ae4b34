"""Models for ``tuning.py``: one that takes its time, one that takes a processor."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sinfer.embedded.example_model import FEATURES, predict
from sinfer.inference.v2.messages import V2Response

SLOW_S = 0.05
BUSY_S = 0.005


def _answer(request: dict[str, Any]) -> V2Response:
    [tensor] = request["inputs"]
    data = tensor["data"]
    rows = [data[start : start + FEATURES] for start in range(0, len(data), FEATURES)]
    return V2Response(
        outputs={"y": predict(rows)}, shapes={"y": [len(rows)]}, datatypes={"y": "FP32"},
        model_name="", model_version="", id="", raw={},
    )  # fmt: skip


async def slow(request: dict[str, Any]) -> V2Response:
    """Answer after 50 ms, as a model elsewhere would."""
    await asyncio.sleep(SLOW_S)
    return _answer(request)


def busy(request: dict[str, Any]) -> V2Response:
    """Answer after 5 ms of Python's own work, as a model or a hook in the worker would."""
    until = time.thread_time() + BUSY_S
    while time.thread_time() < until:
        pass
    return _answer(request)
