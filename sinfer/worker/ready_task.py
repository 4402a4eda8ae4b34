"""One task with everything open that its windows need: pipeline, inference client and sinks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from sinfer.config.units import to_ms
from sinfer.errors import HookError, SinkError
from sinfer.hooks.call import Hook, made
from sinfer.inference.base import InferenceClient
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.base import Sink
from sinfer.store.boards.refusals import RefusalBoard
from sinfer.types.result import sink_key
from sinfer.worker.call_latency import CallLatency
from sinfer.worker.endpoint_guard import GRACE_MS, EndpointGuard, Guard, OpenGuard
from sinfer.worker.halving import HalvingWatch
from sinfer.worker.own_sinks import writes_as_ours
from sinfer.worker.result_keys import are_known_by_message
from sinfer.worker.shared_calls import SharedCalls, Sharing
from sinfer.worker.sink_breaker import SinkBreaker
from sinfer.worker.task_model import TaskModel
from sinfer.worker.unmade_sink import make_sink

if TYPE_CHECKING:
    from sinfer.store.connection import Store
    from sinfer.store.wakes import WakeListener

_log = logging.getLogger(__name__)


_MOST_SHARING = 512
"""Windows of a task that are under way at once, where they share calls."""

_FEWEST_LEARNED = 8
"""Windows of a task that are under way at once however few calls its endpoint bears."""

FALLBACK = "fallback"
MODEL = "model"


def sink_label(name: str) -> str:
    """How a sink is called beside model and fallback, in ``sinfer status`` and metrics."""
    return f"sink {name}"


class SinkWrite(NamedTuple):
    """How results get into a sink.

    Attributes:
        label: how it is called beside model and fallback.
        key: how it is called in keys of results.
        hook: its ``write``.
    """

    label: str
    key: str
    hook: Hook


class ReadyTask:
    """One task with its clients open. Use it on one event loop.

    Args:
        store: Redis, for what all workers share about the model's endpoint; None where there is
            no other worker.
        product: the product.
        config: the task.
        client: asks the model, instead of the client that the task names.
        sinks: take the results, instead of the sinks that the task names.
        pipeline: the product's code, where it is made already.
        wakes: tells of places at the model's endpoint; nobody does by default.

    Attributes:
        name: ``product/task``.
        config: the task.
        pipeline: the product's code, made for it.
        client: asks its model.
        guard: what all workers together grant the model.
        sinks: its sinks by name.
        fallback: takes what a sink refuses for good; None when there is none.
        is_alone: whether this is the only process, as in ``sinfer run``.
        refusals: what all workers see refused of it; None where there is no other worker.
        lease_ms: how long a window of it is held.
        limit: windows that may be under way at once in this process. Of an endpoint that bears few
            calls they wait in the store instead: there, those whose results are due first go
            first, and other processes have theirs.
        active: windows that are.
        bytes: payload of these.
        window_bytes: how large its windows are, by the latest of them; 0 before there was one.
        has_more: whether, by the last claim, more of its windows are ready.
        is_doubted_until_s: until then, by the monotonic clock, everything may be refused, and one
            window at a time is enough to see.
        breakers: of the sinks that have failed, by label; ``breaker`` makes them.
        halving: watches for windows that are taken in parts only.
        turn: held by the partition that gets the next free places.
    """

    def __init__(
        self,
        store: Store | None,
        product: Product,
        config: InferTaskConfig,
        *,
        client: InferenceClient | None = None,
        sinks: Mapping[str, Sink] | None = None,
        pipeline: InferPipeline[Any, Any] | None = None,
        wakes: WakeListener | None = None,
    ) -> None:
        self.product = product.name
        self.name = f"{product.name}/{config.id}"
        self.config = config
        self.pipeline: InferPipeline[Any, Any] = pipeline or product.make_pipeline(config)
        if client is None:
            client = InferenceClient.make(config.inference, f"{self.name}: its inference client")
        self.client: InferenceClient = client
        called = str(made(f"{self.name}: its model", lambda: client.called)) or self.name
        self.guard: Guard = OpenGuard(config.inference.breaker_failures)
        self._latency: CallLatency | None = None
        if store is not None:
            self.guard = EndpointGuard(
                store,
                called,
                config.inference,
                task=self.name,
                wakes=wakes,
                learned=self._note_learned,
            )
            if config.window.deadline is not None:
                self._latency = CallLatency(store, product.name, config.id, called)
        has_own_sinks = sinks is None
        if sinks is None:
            sinks = {
                name: make_sink(sink, f"{self.name}: its sink {name}", may_wait=store is not None)
                for name, sink in zip(config.sink_names(), config.sinks, strict=True)
            }
        self.sinks: dict[str, Sink] = dict(sinks)
        self.fallback: Sink | None = None
        if config.fallback is not None and has_own_sinks:
            self.fallback = make_sink(
                config.fallback, f"{self.name}: its fallback", may_wait=store is not None
            )
        self.is_alone = store is None
        self.refusals = None if store is None else RefusalBoard(store, product.name, config.id)
        self.lease_ms = to_ms(config.limits.lease)
        self.breakers: dict[str, SinkBreaker] = {}
        self.limit = 0
        self._limit_windows(config.inference.most_at_once)
        self.has_more = False
        self.active = 0
        self.window_bytes = 0.0
        self.bytes = 0
        self.is_doubted_until_s = 0.0
        self.halving = HalvingWatch(self.name)
        self.turn = asyncio.Lock()

    def _limit_windows(self, calls: int) -> None:
        """So many calls are made at once: as many windows may be under way, or more where they
        share calls."""
        shared = self.config.inference.share_calls
        self.limit = calls if shared is None else min(_MOST_SHARING, calls * shared)

    def _note_learned(self, calls: int) -> None:
        """So many calls of all processes together the endpoint bears, as far as is known."""
        most = self.config.inference.most_at_once
        self._limit_windows(min(most, max(_FEWEST_LEARNED, 2 * calls)))

    @property
    def labels(self) -> set[str]:
        """Of all that its windows may have to wait for: model, sinks, fallback."""
        return {MODEL, FALLBACK, *map(sink_label, self.sinks)}

    @cached_property
    def model(self) -> TaskModel:
        """Its model, with the product's code around it."""
        most_s = self.config.inference.timeout.total_seconds() + GRACE_MS / 1000
        return TaskModel(
            self.pipeline,
            self.client,
            self.guard,
            name=self.name,
            most_s=None if self.is_alone else most_s,
            latency=self._latency,
        )

    @cached_property
    def shared_calls(self) -> SharedCalls | None:
        """Asks about several windows at once; None where each is asked about by itself."""
        config = self.config.inference
        if config.share_calls is None:
            return None
        size = min(config.share_calls, config.max_batch or config.share_calls)
        wait_s = config.share_wait.total_seconds()
        sharing = Sharing(size, wait_s, lambda: self.has_more and self.active < self.limit)
        return SharedCalls(self.model, self.guard, sharing)

    @cached_property
    def is_by_message(self) -> bool:
        """Whether its results are known by their messages."""
        return are_known_by_message(self.pipeline)

    @cached_property
    def writes(self) -> dict[str, SinkWrite]:
        """How results get into each of its sinks, by name."""
        return {
            name: self._write(sink_label(name), sink_key(name), sink)
            for name, sink in self.sinks.items()
        }

    @cached_property
    def fallback_write(self) -> SinkWrite | None:
        """How results get into its fallback; None when there is none."""
        if self.fallback is None:
            return None
        return self._write(FALLBACK, sink_key(None), self.fallback)

    def _write(self, label: str, key: str, sink: Sink) -> SinkWrite:
        return SinkWrite(
            label,
            key,
            Hook(
                "sink",
                "write",
                sink.write,
                task=self.name,
                passing=(SinkError, OSError),
                is_ours=writes_as_ours(sink),
            ),
        )

    def breaker(self, label: str) -> SinkBreaker:
        """The breaker of a sink or of the fallback, from its first failure on."""
        breaker = self.breakers.get(label)
        if breaker is None:
            config = self.config.inference
            most_ms = 0 if self.is_alone else to_ms(config.retry_max)
            breaker = self.breakers[label] = SinkBreaker(to_ms(config.retry_base), most_ms)
        return breaker

    async def aclose(self) -> None:
        """Close client and sinks, all of them even if one fails."""
        if self.shared_calls is not None:
            await self.shared_calls.aclose()
        await self.guard.aclose()
        parts: list[Any] = [self.client, *self.sinks.values()]
        parts += [self.fallback] if self.fallback else []
        closing = [Hook("setup", "aclose", part.aclose, task=self.name) for part in parts]
        for problem in await asyncio.gather(
            *(close.wait() for close in closing), return_exceptions=True
        ):
            if isinstance(problem, HookError):
                _log.warning("task %s: closing: %s", self.config.id, problem)
