"""What every system but sinfer does with a window: the same model call, the same results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sinfer import Window
from sinfer.encoding import to_json
from sinfer.inference.base import InferenceClient
from sinfer.products.example.pipeline import ExamplePipeline, Reading
from sinfer.products.example.task import ExampleTask
from sinfer.sinks.base import Sink
from sinfer.types.message import Message
from sinfer.types.result import ResultRow, WindowResults

_NO_MESSAGE = Message(b"")


class WindowWork:
    """The model client, the sink and the pipeline of a task. Make it on the event loop it is for.

    Args:
        task: settings, as for sinfer.
    """

    def __init__(self, task: Mapping[str, Any]) -> None:
        config = ExampleTask.model_validate(task)
        self.pipeline = ExamplePipeline(config)
        self.concurrency = config.inference.max_concurrency
        self._task = config.id
        self._client: InferenceClient = InferenceClient.class_for(config.inference)(
            config.inference
        )
        self._sink: Sink = Sink.class_for(config.sinks[0])(config.sinks[0])

    async def process(self, window_id: str, readings: Sequence[Reading]) -> None:
        """Ask the model about a window and publish a result for each of its items."""
        closed_ms = time.time_ns() // 1_000_000
        window = Window(readings, [_NO_MESSAGE] * len(readings), id=window_id, task=self._task)
        request = self.pipeline.build_request(window)
        response = await self._client.infer(request, idempotency_key=window_id)
        results = self.pipeline.build_results(window, response)
        rows = [ResultRow(place, to_json(result.data)) for place, result in enumerate(results)]
        await self._sink.write(
            WindowResults(
                product="bench",
                task=self._task,
                partition="",
                key="all",
                window_id=window_id,
                base_id=window_id,
                revision=0,
                attempt=1,
                start_ms=None,
                end_ms=None,
                close_reason="count",
                closed_ms=closed_ms,
                rows=rows,
            )
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()
        await self._sink.aclose()
