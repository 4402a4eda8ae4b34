"""A task at work in this process: the stages of production, with the windows in memory.

Messages go through the same preparing, planning, inference and sinks as in a deployment, one window
after the other and all on the calling thread, so that a debugger stops anywhere. What is missing is
what needs others: leases, the breaker, back-pressure, and waiting for other partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sinfer.clock import Clock, ManualClock
from sinfer.config.units import to_ms
from sinfer.errors import ConfigError
from sinfer.hooks.call import describe
from sinfer.inference.base import InferenceClient
from sinfer.inference.python import PythonClient, PythonConfig
from sinfer.ingest.own_trigger import guarded
from sinfer.ingest.windower import Beginning, Windower
from sinfer.local.memory import MemoryPartition
from sinfer.local.trace import ProcessedWindow, Trace
from sinfer.nats.subjects import covers
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.base import Sink
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint
from sinfer.store.partition.account import COUNTS, Count
from sinfer.store.work.claim import Claim
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from sinfer.windows.planner import WindowOrigin
from sinfer.windows.planner_types import make_planner
from sinfer.windows.window import CloseReason
from sinfer.worker.process import WindowProcessor
from sinfer.worker.ready_task import ReadyTask

_NO_STREAM = Checkpoint("", 0)
"""Nothing goes on behind where this stopped."""


@dataclass(frozen=True, slots=True)
class LocalRun:
    """How far a task goes.

    Attributes:
        most_windows: try no more than so many; None for any number.
        most_tries: leave a window alone that was tried so often, where production would go on
            until what it waits for is back; None to go on as well.
        incarnation: tells the results from others of the task in the same sinks, which are of a
            deployment or of another run.
    """

    most_windows: int | None = None
    most_tries: int | None = None
    incarnation: str = "local"


class _Partition:
    """One partition: its windows, and what puts messages into them."""

    def __init__(
        self,
        scope: Scope,
        ready: ReadyTask,
        pipeline: Any,
        clock: Clock,
        pause: Any,
        how: LocalRun,
    ) -> None:
        self.scope = scope
        self.memory = MemoryPartition(scope, clock, how.most_tries)
        planner = make_planner(
            ready.config.window,
            scope.window_prefix,
            close_when=guarded(pipeline.close_when) if pipeline.overrides("close_when") else None,
            origin=WindowOrigin(how.incarnation, version=pipeline.version),
        )
        self.windower = Windower(
            pipeline,
            planner,
            clock,
            self.memory.store,
            begins=Beginning(incarnation=how.incarnation),
        )
        self.processor = WindowProcessor(ready, self.memory, pause)
        self.fed_ms: int | None = None

    @property
    def next_ms(self) -> int | None:
        """When the clock alone has something to do here; None for never."""
        spec = self.windower.planner.spec
        due = [self.memory.next_deadline_ms]
        if spec.type == "sliding" and spec.time == "processing":
            due.append(self.windower.planner.next_deadline_ms)
        if spec.idle is not None and self.fed_ms is not None:
            due.append(self.fed_ms + to_ms(spec.idle))
        return min((due_ms for due_ms in due if due_ms is not None), default=None)


class LocalTask:
    """Runs one task in this process.

    Args:
        product: the product.
        config: the task.
        clock: the time; a ``ManualClock`` moves only when told to.
        on_window: is called with each window when it was tried.
        client: asks the model, instead of the client that the task names.
        sinks: take the results, instead of the sinks that the task names.
        how: how far it goes.

    Attributes:
        pipeline: the product's code.
        windows: the windows that were tried, in the order of closing.
        others: messages that ``own`` left out.
        paused: why no call can succeed; empty when nothing says so. No window is tried then.

    Raises:
        ConfigError: client or sinks cannot be made.
    """

    def __init__(
        self,
        product: Product,
        config: InferTaskConfig,
        *,
        clock: Clock,
        on_window: Callable[[ProcessedWindow], None] | None = None,
        client: InferenceClient | None = None,
        sinks: Mapping[str, Sink] | None = None,
        how: LocalRun = LocalRun(),
    ) -> None:
        if client is None and isinstance(config.inference, PythonConfig):
            client = PythonClient(config.inference, in_place=True)
        self.config = config
        self.clock = clock
        self.windows: list[ProcessedWindow] = []
        self.paused = ""
        self.others = 0
        self._most_windows = how.most_windows
        self._on_window = on_window
        self._ready = ReadyTask(None, product, config, client=client, sinks=sinks)
        self.pipeline = self._ready.pipeline
        self._trace = Trace(self._ready)
        self._by_id: dict[str, ProcessedWindow] = {}
        self._seq = 0
        self._partitions = [
            _Partition(
                Scope(product.name, config.id, subject),
                self._ready,
                self.pipeline,
                clock,
                self._pause,
                how,
            )
            for subject in config.source.partition_subjects
        ]

    @property
    def counts(self) -> dict[str, int]:
        """What became of the messages: fetched, filtered, late, sunk, dead, and windows."""
        counts: dict[str, int] = dict.fromkeys(COUNTS, 0)
        for partition in self._partitions:
            for name, count in partition.memory.counts.items():
                if name != Count.TAKEN:
                    counts[name] = counts.get(name, 0) + count
        return counts

    @property
    def dead(self) -> list[DeadLetter]:
        """All messages that were given up, with the reason."""
        return [letter for partition in self._partitions for letter in partition.memory.dead]

    @property
    def is_over(self) -> bool:
        """Whether no further window will be tried."""
        most = self._most_windows
        return bool(self.paused) or (most is not None and len(self.windows) >= most)

    @property
    def undone(self) -> int:
        """Windows that were tried and are not done."""
        return sum(not window.is_done for window in self.windows)

    @property
    def has_work(self) -> bool:
        """Whether a closed window is to be tried yet."""
        return any(partition.memory.has_work for partition in self._partitions)

    @property
    def next_ms(self) -> int | None:
        """When the clock alone has something to do; None for never."""
        found = [partition.next_ms for partition in self._partitions]
        return min((due_ms for due_ms in found if due_ms is not None), default=None)

    # --- messages ---

    def numbered(self, message: Message) -> Message:
        """The message with the next stream sequence and the time, where it has none."""
        self._seq = message.stream_seq or self._seq + 1
        return self._completed(message, self._seq)

    def preview(self, message: Message) -> Message:
        """The message as ``feed`` would make it."""
        return self._completed(message, message.stream_seq or self._seq + 1)

    def _completed(self, message: Message, stream_seq: int) -> Message:
        return Message(
            message.data,
            message.subject or self.subject,
            message.headers,
            stream_seq,
            message.timestamp_ns or self.clock.now_ms() * 1_000_000,
        )

    def own(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Those of the messages that the task would read; they may name no subject."""
        for message in messages:
            subject = message.subject
            if not subject or any(covers(p.scope.partition, subject) for p in self._partitions):
                yield message
            else:
                self.others += 1

    @property
    def subject(self) -> str:
        """The subject of messages that name none."""
        first = self.config.source.partition_subjects[0]
        return "local" if "*" in first or ">" in first else first

    async def feed(self, messages: Sequence[Message]) -> None:
        """Put messages into windows, and process what closes by that.

        Raises:
            ConfigError: a message's subject is in no partition of the task.
        """
        numbered = [self.numbered(message) for message in messages]
        for partition, batch in self._shared_out(numbered):
            partition.fed_ms = self.clock.now_ms()
            await partition.windower.take(Batch(batch, _NO_STREAM))
        await self.process()

    def _shared_out(self, messages: list[Message]) -> list[tuple[_Partition, list[Message]]]:
        """The messages of each partition, in order."""
        if len(self._partitions) == 1:
            return [(self._partitions[0], messages)]
        batches: list[tuple[_Partition, list[Message]]] = [(p, []) for p in self._partitions]
        for message in messages:
            for partition, batch in batches:
                if covers(partition.scope.partition, message.subject):
                    batch.append(message)
                    break
            else:
                raise ConfigError(
                    f"subject {message.subject!r} is in no partition of task {self.config.id!r}"
                    f" ({', '.join(p.scope.partition for p, _ in batches)})"
                )
        return [(partition, batch) for partition, batch in batches if batch]

    # --- time ---

    async def tick(self) -> None:
        """Do what the clock asks for: close windows, try again those that wait."""
        now_ms = self.clock.now_ms()
        for partition in self._partitions:
            partition.memory.close_due()
            spec = partition.windower.planner.spec
            if spec.type == "sliding" and spec.time == "processing":
                await partition.windower.advance()
            fed_ms, idle = partition.fed_ms, spec.idle
            if fed_ms is not None and idle is not None and fed_ms + to_ms(idle) <= now_ms:
                partition.fed_ms = None
                await partition.windower.close_all("idle")
        await self.process()

    async def advance_to(self, now_ms: int) -> None:
        """Move a manual clock on, and do what is due on the way at the time that it is due.

        Args:
            now_ms: milliseconds since the epoch.
        """
        assert isinstance(self.clock, ManualClock)
        while (due_ms := self.next_ms) is not None and due_ms <= now_ms and not self.is_over:
            self.clock.advance_to(due_ms)
            await self.tick()
        self.clock.advance_to(now_ms)

    async def close_all(self, reason: CloseReason = "drain") -> None:
        """Close whatever is open, and process it."""
        for partition in self._partitions:
            await partition.windower.close_all(reason)
        await self.process()

    # --- windows ---

    async def process(self) -> None:
        """Process the closed windows that may be tried now, one after the other."""
        for partition in self._partitions:
            while not self.is_over and (claimed := partition.memory.claim()) is not None:
                await self._process(partition, *claimed)

    async def _process(self, partition: _Partition, claim: Claim, messages: list[Message]) -> None:
        found = self._by_id.get(claim.window.id)
        if found is None:
            found = self._by_id[claim.window.id] = ProcessedWindow(claim.window.id)
            self.windows.append(found)
        found.messages = len(messages)
        found.attempts, found.tries = claim.attempt, claim.attempt + claim.excused
        found.earlier_calls = len(found.calls)
        found.refused.clear()
        self._trace.current = found
        dead = len(partition.memory.dead)
        await partition.processor.process(claim, messages)
        found.dead += partition.memory.dead[dead:]
        left = {window.id for window in partition.memory.unfinished}
        found.is_done = claim.window.id not in left
        found.waits_for = "" if found.is_done else self.paused or _reason(found)
        found.is_excused = partition.memory.is_excused(claim)
        if self._on_window is not None:
            self._on_window(found)

    async def _pause(self, reason: str) -> None:
        self.paused = reason

    async def resume(self) -> None:
        """Try again after no call could succeed."""
        self.paused = ""
        await self.process()

    async def aclose(self) -> None:
        """Close client and sinks."""
        await self._ready.aclose()


def _reason(found: ProcessedWindow) -> str:
    if found.refused:
        return ", ".join(f"sink {name}: {describe(e)}" for name, e in found.refused.items())
    calls = found.calls[found.earlier_calls :]
    errors = [call.error for call in calls if call.error is not None]
    return describe(errors[-1]) if errors else "build_results asks for another try"
