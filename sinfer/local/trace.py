"""What happened to each window: calls to the model, results, and how long each step took."""

from __future__ import annotations

import inspect
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sinfer.encoding import from_json
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.types.result import WindowResults
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


class Trace:
    """Watches a task at work, one window after the other.

    Args:
        ready: the task; its hooks, client and sinks are timed from now on.

    Attributes:
        current: the window that is being processed.
    """

    def __init__(self, ready: ReadyTask) -> None:
        self.current = ProcessedWindow("")
        for hook in ("build_request", "build_results"):
            setattr(ready.pipeline, hook, self._timed(hook, getattr(ready.pipeline, hook)))
        ready.client.infer = self._recorded(ready.client.infer)  # type: ignore[method-assign]
        for name, sink in ready.sinks.items():
            sink.write = self._watched(name, sink.write)  # type: ignore[method-assign]
        ready.sinks[RECORDER] = _Recorder(self)

    def _timed(self, step: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A hook that says how long it takes; a debugger that steps into it is one frame away."""

        def timed(*args: Any) -> Any:
            if args and isinstance(args[0], Window):
                self._note(args[0])
            started = time.perf_counter()
            try:
                result = call(*args)
            finally:
                self.current.seconds[step] += time.perf_counter() - started
            return self._awaited(step, result) if inspect.isawaitable(result) else result

        return timed

    async def _awaited(self, step: str, result: Any) -> Any:
        started = time.perf_counter()
        try:
            return await result
        finally:
            self.current.seconds[step] += time.perf_counter() - started

    def _watched(self, sink: str, write: Callable[..., Any]) -> Callable[..., Any]:
        timed = self._timed(f"sink {sink}", write)

        async def watched(results: WindowResults) -> Any:
            try:
                return await timed(results)
            except Exception as error:
                self.current.refused[sink] = error
                raise

        return watched

    def _note(self, window: Window[Any]) -> None:
        """The whole window is the first that the product sees; later ones may be parts of it."""
        if self.current.window is None or len(window) > len(self.current.window):
            self.current.window = window

    def _recorded(self, infer: Callable[..., Any]) -> Callable[..., Any]:
        async def recorded(request: Any, *, idempotency_key: str = "") -> Any:
            call = Call(request)
            self.current.calls.append(call)
            started = time.perf_counter()
            try:
                call.response = await infer(request, idempotency_key=idempotency_key)
            except Exception as error:
                call.error = error
                raise
            finally:
                call.seconds = time.perf_counter() - started
                self.current.seconds["model"] += call.seconds
            return call.response

        return recorded
