"""The product whose messages and windows ``tools/trips.py`` follows."""

from __future__ import annotations

import os
from typing import Any

from sinfer import (
    InferPipeline,
    InferTaskConfig,
    Message,
    Product,
    Result,
    StaticTaskManager,
    Window,
)

MESSAGES = 4
"""A window closes with so many."""


class Numbers(InferPipeline[InferTaskConfig, list[float]]):
    """Sixteen numbers a message, one call for each window, one result for each message."""

    def preprocess(self, message: Message) -> list[float]:
        return [float(word) for word in message.data.split()]

    def build_request(self, window: Window[list[float]]) -> dict[str, Any]:
        data = [value for item in window for value in item]
        shape = [len(window), len(window[0])]
        return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}

    def build_results(self, window: Window[list[float]], response: Any) -> list[Result]:
        return [Result({"y": value}) for value in response.outputs["y"]]


product = Product(
    "trips",
    tasks=StaticTaskManager(
        [
            {
                "id": "trip",
                "source": {"stream": "TRIPS", "subject": "trips.in", "durable": "trip"},
                "window": {"type": "count", "count": MESSAGES},
                "inference": {
                    "type": "v2",
                    "url": os.environ.get("TRIPS_MODEL_URL", "http://127.0.0.1:8000"),
                    "model": "example",
                    "binary": False,
                },
                "sinks": [{"type": "jetstream", "subject": "trips.out"}],
            }
        ]
    ),
    pipeline=Numbers,
)
