"""Windows of one task, tried until nothing is left: the model, the sinks, and who tries them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from sinfer import (
    InferenceClient,
    InferenceConfig,
    InferPipeline,
    InferTaskConfig,
    Message,
    Product,
    Result,
    Sink,
    StaticTaskManager,
    Window,
    WindowResults,
)
from sinfer.aio.cancel import end
from sinfer.errors import SinkRejectedError
from sinfer.operations.audit import audit
from sinfer.operations.status import standing
from sinfer.sinks.base import SinkConfig
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.store.keys import PartitionKeys
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.store.work.claim import Claim
from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Entry
from sinfer.windows.planner import WindowOrigin
from sinfer.windows.planner_types import make_planner
from sinfer.worker.process import WindowProcessor
from sinfer.worker.ready_task import ReadyTask
from tests.support.until import until
from tests.support.window_reference import window_spec

_PATIENCE_S = 30.0


class Model(InferenceClient):
    """Doubles numbers, or raises what it was told to.

    Attributes:
        calls: what it was asked, with the idempotency key.
        errors: what the next calls raise; None for an answer.
    """

    def __init__(self) -> None:
        super().__init__(InferenceConfig(type="doubling"))
        self.calls: list[tuple[list[int], str]] = []
        self.errors: deque[Exception | None] = deque()

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        self.calls.append((request, idempotency_key))
        error = self.errors.popleft() if self.errors else None
        if error is not None:
            raise error
        return [2 * number for number in request]

    @property
    def asked(self) -> list[list[int]]:
        return [request for request, _ in self.calls]


class Record(Sink):
    """Keeps what is written, or raises what it was told to.

    Attributes:
        windows: what was written.
        errors: what the next writes raise.
        tries: how often it was asked to write.
    """

    def __init__(self, *errors: Exception) -> None:
        super().__init__(SinkConfig(type="record"))
        self.windows: list[WindowResults] = []
        self.errors = deque(errors)
        self.tries = 0

    async def write(self, results: WindowResults) -> None:
        self.tries += 1
        if self.errors:
            raise self.errors.popleft()
        self.windows.append(results)

    @property
    def written(self) -> Counter[tuple[str, bytes]]:
        """Idempotency key and data of all results, with how often each was written."""
        return Counter((w.idempotency_key(row), row.data) for w in self.windows for row in w)


class Stuck(Record):
    """Never comes to an end.

    Attributes:
        writing: set while it is asked to write.
    """

    def __init__(self) -> None:
        super().__init__()
        self.writing = asyncio.Event()

    async def write(self, results: WindowResults) -> None:
        self.writing.set()
        await asyncio.Event().wait()


def refusing(*ordinals: int, text: str = "constraint") -> SinkRejectedError:
    return SinkRejectedError(text, ordinals=ordinals)


class Choosy(Record):
    """Takes all but some places, and says so."""

    def __init__(self, *places: int) -> None:
        super().__init__()
        self.places = frozenset(places)

    async def write(self, results: WindowResults) -> None:
        self.tries += 1
        taken = [row for row in results if row.ordinal not in self.places]
        self.windows.append(dataclasses.replace(results, rows=taken))
        if len(taken) < len(results):
            raise refusing(*(row.ordinal for row in results if row.ordinal in self.places))


class Judging(InferPipeline[InferTaskConfig, int]):
    """Asks for another try as often as ``patience`` says of a number; gives negative ones up."""

    patience: ClassVar[Counter[int]] = Counter()

    def preprocess(self, message: Message) -> int | None:
        number = int(message.data)
        return None if number == 99 else number

    def build_request(self, window: Window[int]) -> list[int]:
        return list(window)

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [self.judge(n, y) for n, y in zip(window, response, strict=True)]

    def judge(self, number: int, answer: int) -> Result:
        if number < 0:
            return Result.failed("negative")
        if self.patience[number] > 0:
            self.patience[number] -= 1
            return Result.retry("too early")
        return Result(answer)


class Freely(Judging):
    results_per: ClassVar[Literal["item", "window", "any"]] = "any"


class Bench:
    """A partition with one task, whose windows are tried until nothing is left."""

    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.scope = Scope("p", name, "in.{odd}")
        self.claims = PartitionClaims(store, self.scope)
        self.model = Model()
        self.paused = ""
        self._ready: list[ReadyTask] = []
        self._seq = 0

    def processor(
        self,
        pipeline: type[Judging] = Judging,
        *,
        attempts: int = 3,
        source: Mapping[str, Any] | None = None,
        dedupe: str | None = None,
        inference: Mapping[str, Any] | None = None,
        **sinks: Sink,
    ) -> WindowProcessor:
        config = self.config(attempts, source, dedupe, inference)
        product = Product("p", tasks=StaticTaskManager([config]), pipeline=pipeline)
        fallback = sinks.pop("fallback", None)
        ready = ReadyTask(self.store, product, config, client=self.model, sinks=sinks)
        ready.fallback = fallback
        self._ready.append(ready)
        return WindowProcessor(ready, self.claims, self._pause)

    def config(
        self,
        attempts: int = 3,
        source: Mapping[str, Any] | None = None,
        dedupe: str | None = None,
        inference: Mapping[str, Any] | None = None,
    ) -> InferTaskConfig:
        return InferTaskConfig.model_validate(
            {
                "id": self.scope.task,
                "source": source or {"stream": "S"},
                "window": {"type": "count", "count": 10, "dedupe": dedupe},
                "inference": {
                    "type": "python",
                    "call": "json:dumps",
                    "retry_base": "1ms",
                    "retry_max": "10ms",
                    "breaker_failures": 1000,
                    **(inference or {}),
                },
                "sinks": [{"type": "log"}],
                "limits": {"max_attempts": attempts},
            }
        )

    def has_more(self) -> None:
        """More windows of the tasks are ready, as far as anyone knows."""
        for ready in self._ready:
            ready.has_more = True

    async def _pause(self, reason: str) -> None:
        self.paused = reason

    async def aclose(self) -> None:
        for ready in self._ready:
            await ready.aclose()

    async def feed(
        self, *windows: Sequence[int], seq: int | None = None, incarnation: str = ""
    ) -> None:
        """Store one closed window for each list of numbers.

        Args:
            windows: the numbers.
            seq: stream sequence of the first; they go on by default.
            incarnation: of the source.
        """
        self._seq = self._seq if seq is None else seq - 1
        writer = PartitionWriter(self.store, self.scope, owner="w", lease_ms=60_000)
        await writer.acquire()
        await writer.load()
        for numbers in windows:
            entries = []
            for number in numbers:
                self._seq += 1
                message = Message(b"%d" % number, "in.a", None, self._seq, self._seq)
                entries.append(Entry(message, "k", 0))
            spec = window_spec(type="count", count=len(numbers))
            planner = make_planner(spec, self.scope.window_prefix, origin=WindowOrigin(incarnation))
            plan = planner.plan(entries, 0)
            await writer.commit(Commit(plan, b"", counts={"fetched": len(numbers)}))
        await Schedule(self.store).register(self.scope)

    async def try_once(self, processor: WindowProcessor) -> int:
        """Try every window that may be tried now; returns how many are left."""
        claims = await self.claim(100, lease_ms=60_000)
        contents = await self.claims.read(claims)
        for claim, messages in zip(claims, contents, strict=True):
            await processor.process(claim, messages)
        return await self.claims.waiting()

    async def claim(self, limit: int, lease_ms: int) -> list[Claim]:
        """Claim windows; where there is none, one that is suspected."""
        claims, _ = await self.claims.claim(limit, lease_ms=lease_ms)
        if not claims and self.claims.suspected:
            claims, _ = await self.claims.claim(1, lease_ms=lease_ms, alone=True)
        return claims

    async def die_and_go_on(
        self, processor: WindowProcessor, dies: asyncio.Event, most: int = 200
    ) -> int:
        """Try the windows until none is left; each worker dies where ``dies`` is set.

        Returns:
            How many died.
        """
        deaths = 0
        while await self.claims.waiting():
            assert deaths < most
            claims = await self.claim(100, lease_ms=1)
            contents = await self.claims.read(claims)
            dies.clear()
            working = [
                asyncio.create_task(processor.process(claim, messages))
                for claim, messages in zip(claims, contents, strict=True)
            ]
            died = asyncio.create_task(dies.wait())
            while not dies.is_set() and (left := {task for task in working if not task.done()}):
                await asyncio.wait({died, *left}, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            if dies.is_set():
                deaths += 1
                await end(*working, again_s=0.01)
                await self.lose_leases()
        [found] = await audit(self.store, [self.scope])
        assert found.is_right, found
        return deaths

    async def break_off(self, processor: WindowProcessor, at: asyncio.Event) -> Claim:
        """Try a window under a short lease, and stop as a killed worker does."""
        at.clear()
        claims: list[Claim] = []

        async def is_claimed() -> bool:
            claims.extend(await self.claim(1, lease_ms=1))
            return bool(claims)

        await until(is_claimed, "the window may be tried", every_s=0.001)
        [claim] = claims
        [messages] = await self.claims.read([claim])
        working = asyncio.create_task(processor.process(claim, messages))
        await asyncio.wait_for(at.wait(), _PATIENCE_S)
        working.cancel()
        await asyncio.wait([working])
        return claim

    async def lose_leases(self) -> None:
        """Have what is leased taken back, as beat does."""

        async def is_taken_back() -> bool:
            return (await Schedule(self.store).close_due(self.scope)).expired > 0

        await until(is_taken_back, every_s=0.001)

    async def settle(
        self, processor: WindowProcessor, is_enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Try windows until none is left, or until something is so; then all is accounted for."""

        async def is_settled() -> bool:
            return not await self.try_once(processor) or is_enough()

        await until(is_settled, every_s=0.001)
        [found] = await audit(self.store, [self.scope])
        assert found.is_right, found

    async def dead(self) -> list[DeadLetter]:
        letters = DeadLetterStore(self.store)
        return [s.letter async for s in letters.of_partition(self.scope, LetterFilter())]

    async def trouble(self) -> list[str]:
        """What `sinfer status` says of the task."""
        [found] = await standing(self.store, [self.scope])
        return found.trouble

    async def counts(self) -> dict[str, int]:
        names = ("fetched", "sunk", "dead")
        found = await self.store.redis.hmget(PartitionKeys(self.scope).meta, names)
        return {name: int(value or 0) for name, value in zip(names, found, strict=True)}
