"""What every system but sinfer does with a window: the same model call, the same results."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec

from sinfer import Window
from sinfer.encoding import to_json
from sinfer.inference.base import InferenceClient
from sinfer.products.example.pipeline import ExamplePipeline, Reading
from sinfer.products.example.task import ExampleTask
from sinfer.sinks.base import Sink
from sinfer.types.message import Message
from sinfer.types.result import ResultRow, WindowResults

_NO_MESSAGE = Message(b"")


class _Output(msgspec.Struct):
    name: str
    data: list[float]


class _Answer(msgspec.Struct):
    outputs: list[_Output]


class _Response(msgspec.Struct):
    outputs: dict[str, list[float]]


_decode = msgspec.json.Decoder(_Answer).decode


class PlainHttpx:
    """The v2 call as one writes it oneself: one POST with httpx, JSON both ways.

    Args:
        url: of the model server.
    """

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v2/models/example/infer"
        self._client = httpx.AsyncClient(trust_env=False, timeout=30)

    async def infer(self, request: Any, *, idempotency_key: str) -> _Response:
        """Ask the model.

        Raises:
            httpx.HTTPError: it did not answer with results.
        """
        headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
        answer = await self._client.post(self._url, content=to_json(request), headers=headers)
        answer.raise_for_status()
        return _Response({output.name: output.data for output in _decode(answer.content).outputs})

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class WindowWork:
    """The model client, the sink and the pipeline of a task. Make it on the event loop it is for.

    Args:
        task: settings, as for sinfer.
        pipeline: the product's.
        plain: whether the model is asked by plain httpx instead of sinfer's client.
    """

    def __init__(
        self,
        task: Mapping[str, Any],
        pipeline: type[ExamplePipeline] = ExamplePipeline,
        *,
        plain: bool = False,
    ) -> None:
        config = ExampleTask.model_validate(task)
        self.pipeline = pipeline(config)
        self._task = config.id
        self._client: InferenceClient | PlainHttpx = (
            PlainHttpx(task["inference"]["url"])
            if plain
            else InferenceClient.class_for(config.inference)(config.inference)
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
