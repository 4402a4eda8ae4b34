"""What happened to each window: calls to the model, results, and how long each step took."""

from __future__ import annotations

import inspect
import time
from collections import defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from sinfer.encoding import from_json
from sinfer.inference.base import InferenceClient
from sinfer.products.pipeline import InferPipeline
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.types.message import Message
from sinfer.types.result import Confirmed, WindowResults
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.window import Window
from sinfer.worker.ready_task import ReadyTask

RECORDER = "(recorder)"
"""The name of the sink that takes note of results."""


@dataclass(slots=True)
class Call:
    """One call to the model.

    Attributes:
        request: what ``build_request`` made.
        response: what the client returned; None when it failed.
        error: what the client raised; None when it answered.
        seconds: how long it took.
    """

    request: Any
    response: Any = None
    error: Exception | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class ProcessedWindow:
    """A window that was processed, or that waits for another try.

    Attributes:
        window: what the product saw of it: items, bounds, key, reason. None when no message could
            be made an item any more.
        id: its id.
        messages: how many messages it holds.
        attempts: how often it was tried, without what did not count.
        tries: how often it was tried.
        is_excused: whether the last try does not count, as where a server is unavailable.
        earlier_calls: how many of the calls belong to earlier tries.
        calls: calls to the model, in order; several for large windows, halves and retries.
        results: what ``build_results`` made of the answers, as the sinks have it: decoded JSON.
        dead: messages that were given up, with the reason.
        refused: what its last try failed at behind the model, by sink.
        is_done: whether it is through.
        waits_for: why it waits for another try; empty when it does not.
        seconds: time spent, by step: build_request, model, build_results, and each sink by name.
    """

    id: str
    window: Window[Any] | None = None
    messages: int = 0
    attempts: int = 0
    tries: int = 0
    is_excused: bool = False
    earlier_calls: int = 0
    calls: list[Call] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    refused: dict[str, Exception] = field(default_factory=dict)
    is_done: bool = False
    waits_for: str = ""
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def requests(self) -> list[Any]:
        """The requests, in order."""
        return [call.request for call in self.calls]

    @property
    def responses(self) -> list[Any]:
        """The answers, in order; None for calls that failed."""
        return [call.response for call in self.calls]

    def __len__(self) -> int:
        return self.messages


class _Recorder(Sink):
    """Takes note of results."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(SinkConfig(type=RECORDER))
        self._trace = trace

    async def write(self, results: WindowResults) -> None:
        found = self._trace.current
        found.results = [from_json(row.data) for row in results.rows]


class _TracedPipeline(InferPipeline[Any, Any]):
    """Stands for a pipeline at the model, and says how long its hooks take there."""

    def __init__(self, pipeline: InferPipeline[Any, Any], trace: Trace) -> None:
        super().__init__(pipeline.task)
        self.results_per = pipeline.results_per  # type: ignore[misc]
        self._pipeline = pipeline
        self._trace = trace

    def preprocess(self, message: Message) -> Any:
        return self._pipeline.preprocess(message)

    def item_id(self, item: Any) -> Hashable:
        return self._pipeline.item_id(item)

    def build_request(self, window: Window[Any]) -> Any:
        self._trace.note(window)
        return self._trace.timed("build_request", self._pipeline.build_request, window)

    def build_results(self, window: Window[Any], response: Any) -> Any:
        return self._trace.timed("build_results", self._pipeline.build_results, window, response)


class _TracedClient(InferenceClient):
    """Stands for a client, and takes note of its calls."""

    def __init__(self, client: InferenceClient, trace: Trace) -> None:
        super().__init__(client.config)
        self._client = client
        self._trace = trace

    @property
    def endpoint(self) -> str:
        return self._client.endpoint

    @property
    def called(self) -> str:
        return self._client.called

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        found = self._trace.current
        call = Call(request)
        found.calls.append(call)
        started = time.perf_counter()
        try:
            call.response = await self._client.infer(request, idempotency_key=idempotency_key)
        except Exception as error:
            call.error = error
            raise
        finally:
            call.seconds = time.perf_counter() - started
            found.seconds["model"] += call.seconds
        return call.response

    async def aclose(self) -> None:
        await self._client.aclose()


class _TracedSink(Sink):
    """Stands for a sink, and takes note of how long it takes and what it refuses."""

    def __init__(self, name: str, sink: Sink, trace: Trace) -> None:
        super().__init__(sink.config)
        self._name = name
        self._sink = sink
        self._trace = trace

    async def write(self, results: WindowResults) -> Confirmed | None:
        try:
            written = self._trace.timed(f"sink {self._name}", self._sink.write, results)
            found: Confirmed | None = await written
        except Exception as error:
            self._trace.current.refused[self._name] = error
            raise
        return found

    async def aclose(self) -> None:
        await self._sink.aclose()


class Trace:
    """Watches a task at work, one window after the other.

    Args:
        ready: the task; its pipeline, client and sinks are watched from now on.

    Attributes:
        current: the window that is being processed.
    """

    def __init__(self, ready: ReadyTask) -> None:
        self.current = ProcessedWindow("")
        ready.pipeline = _TracedPipeline(ready.pipeline, self)
        ready.client = _TracedClient(ready.client, self)
        for name, sink in ready.sinks.items():
            ready.sinks[name] = _TracedSink(name, sink, self)
        ready.sinks[RECORDER] = _Recorder(self)

    def timed(self, step: str, call: Callable[..., Any], *args: Any) -> Any:
        """Call something and say how long it takes; a debugger that steps in is one frame away."""
        started = time.perf_counter()
        try:
            result = call(*args)
        finally:
            self.current.seconds[step] += time.perf_counter() - started
        return self._awaited(step, result) if inspect.isawaitable(result) else result

    async def _awaited(self, step: str, result: Any) -> Any:
        started = time.perf_counter()
        try:
            return await result
        finally:
            self.current.seconds[step] += time.perf_counter() - started

    def note(self, window: Window[Any]) -> None:
        """The whole window is the first that the product sees; later ones may be parts of it."""
        if self.current.window is None or len(window) > len(self.current.window):
            self.current.window = window
