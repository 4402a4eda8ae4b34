"""Running a task in a test: feed messages, advance the clock, look at what comes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from sinfer.clock import ManualClock
from sinfer.config.model import explain
from sinfer.config.units import parse_duration, to_ms
from sinfer.encoding import to_json
from sinfer.errors import ConfigError
from sinfer.inference.base import InferenceClient
from sinfer.local.task import LocalTask
from sinfer.local.trace import ProcessedWindow
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.base import Sink
from sinfer.testing.model import FakeModel
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter

T = TypeVar("T")

START = 1_700_000_000.0
"""What the clock of a test shows at first, seconds since the epoch."""

Payload = bytes | str | Message | Any
"""A payload as it is, a whole message, or anything that is published as JSON."""


class TaskTester:
    """Runs one task of a product as production does, with time in the hands of the test.

    No server is needed: windows are kept in memory, results are collected instead of written, and
    with ``model`` no model is called. Everything happens in the call that causes it::

        with TaskTester(product, model=lambda request: v2_response(y=[0.0])) as task:
            task.feed({"id": 1})
            task.advance("5s")
            assert task.results == [{"id": 1, "y": 0.0}]

    Args:
        product: the product.
        task: which task: its id, or settings that override those of the product's first task; by
            default the first task as it is.
        model: answers instead of the task's model: a ``FakeModel``, a function from request to
            response, or the one response to everything. None asks the real one.
        start: what the clock shows at first, seconds since the epoch.
        sinks: take the results as well; none do by default.

    Raises:
        ConfigError: the product has no such task, or its settings are not valid.
    """

    __test__ = False  # not a class of tests, whatever its name says to pytest

    def __init__(
        self,
        product: Product,
        task: str | Mapping[str, Any] | InferTaskConfig | None = None,
        *,
        model: Any = None,
        start: float = START,
        sinks: Mapping[str, Sink] | None = None,
    ) -> None:
        self._runner = asyncio.Runner()
        self._clock = ManualClock(round(start * 1000))
        if model is not None and not isinstance(model, InferenceClient):
            model = FakeModel(model)
        self.model: InferenceClient | None = model
        try:
            self._task = self._run(self._make(product, task, sinks))
        except BaseException:
            self._runner.close()
            raise

    async def _make(
        self,
        product: Product,
        task: str | Mapping[str, Any] | InferTaskConfig | None,
        sinks: Mapping[str, Sink] | None,
    ) -> LocalTask:
        config = task if isinstance(task, InferTaskConfig) else await _find(product, task)
        return LocalTask(product, config, clock=self._clock, client=self.model, sinks=sinks or {})

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    # --- what a test does ---

    def feed(
        self,
        *payloads: Payload,
        subject: str = "",
        headers: dict[str, str] | None = None,
        at: float | None = None,
    ) -> None:
        """Have messages arrive, all of them in one batch.

        Args:
            payloads: bytes or text as it is, anything else as JSON; or whole messages.
            subject: where they were published; by default what the task reads.
            headers: of each of them.
            at: advance the clock to this time first, seconds since the epoch.
        """
        if at is not None:
            self._run(self._task.advance_to(round(at * 1000)))
        messages = [
            payload if isinstance(payload, Message) else Message(_bytes(payload), subject, headers)
            for payload in payloads
        ]
        self._run(self._task.feed(messages))

    def advance(self, duration: str | float | timedelta) -> None:
        """Let time pass: ``"5s"``, or seconds. What is due on the way happens at its time."""
        ms = to_ms(parse_duration(duration))
        self._run(self._task.advance_to(self._clock.now_ms() + ms))

    def close_windows(self) -> None:
        """Close whatever is open, as when a task is removed."""
        self._run(self._task.close_all("drain"))

    # --- what a test looks at ---

    @property
    def config(self) -> InferTaskConfig:
        """The task."""
        return self._task.config

    @property
    def pipeline(self) -> Any:
        """The product's pipeline, as it runs."""
        return self._task.pipeline

    @property
    def now(self) -> float:
        """What the clock shows, seconds since the epoch."""
        return self._clock.now_ms() / 1000

    @property
    def windows(self) -> list[ProcessedWindow]:
        """The windows that closed, in that order: items, requests, responses, results."""
        return self._task.windows

    @property
    def requests(self) -> list[Any]:
        """What the model was asked, in order."""
        return [request for window in self.windows for request in window.requests]

    @property
    def results(self) -> list[Any]:
        """The results of all windows, as sinks have them: decoded JSON."""
        return [result for window in self.windows for result in window.results]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """Messages that were given up: each with ``message``, ``stage`` and ``error``."""
        return self._task.dead

    @property
    def counts(self) -> dict[str, int]:
        """What became of the messages: fetched, filtered, late, sunk, dead."""
        return self._task.counts

    @property
    def paused(self) -> str:
        """Why the task would be paused in production: no call of it can succeed."""
        return self._task.paused

    # --- the end ---

    def close(self) -> None:
        """Close client and sinks."""
        self._run(self._task.aclose())
        self._runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


async def _find(product: Product, task: str | Mapping[str, Any] | None) -> InferTaskConfig:
    listed = await product.list_tasks()
    await product.close_tasks()
    if isinstance(task, str):
        if task in listed.tasks:
            return listed.tasks[task]
        raise ConfigError(
            listed.problems.get(task)
            or f"product {product.name!r} has no task {task!r} (it has: {', '.join(listed.tasks)})"
        )
    base: Mapping[str, Any] = {}
    if listed.tasks:
        first = next(iter(listed.tasks.values()))
        if not task:
            return first
        base = {name: getattr(first, name) for name in first.model_fields_set}
    elif not task:
        problem = next(iter(listed.problems.values()), "it lists none")
        raise ConfigError(f"product {product.name!r} has no valid task: {problem}")
    settings = {**base, **task}
    try:
        return product.task_type.model_validate(settings)
    except ValidationError as error:
        where = f"product {product.name!r}, the task of the test"
        raise explain(error, where, settings) from None


def _bytes(payload: Any) -> bytes:
    if isinstance(payload, bytes):
        return payload
    return payload.encode() if isinstance(payload, str) else to_json(payload)
