"""Processing one claimed window: infer, keep the output, write the sinks, complete."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceUnavailableError,
)
from sinfer.messages import Message
from sinfer.results import WindowResults
from sinfer.tasks.coalescing import Coalescer
from sinfer.tasks.ending import Timings, attempts_of, dead_letter, ledger_entry
from sinfer.tasks.inference import Inferrer
from sinfer.tasks.outcomes import Failure, Outcome, pack_outcome, unpack_outcome
from sinfer.tasks.ready_task import ReadyTask
from sinfer.tasks.writing import SinkWriter
from sinfer.units import to_ms
from sinfer.windows.claims import Claim, Claims, Completion, StoredOutput
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.windows.deduplication import kept_places
from sinfer.windows.ledger import pack_entry
from sinfer.windows.window import Window

_log = logging.getLogger(__name__)

_NOTHING = StoredOutput(None, frozenset())

_CHANGED_MS = 1000
"""When a window is tried again whose task changed meanwhile."""


class TryLaterError(Exception):
    """The window has to be tried again.

    Attributes:
        wait_ms: not before so many milliseconds.
        counts: whether the attempt counts.
        outcome: what there is already; None when there is nothing.
    """

    def __init__(
        self, error: str, wait_ms: int, *, counts: bool = True, outcome: Outcome | None = None
    ) -> None:
        super().__init__(error)
        self.wait_ms = wait_ms
        self.counts = counts
        self.outcome = outcome


class WindowProcessor:
    """Processes the windows of one partition, many at once.

    Args:
        ready: the task with its clients open.
        claims: the partition.
        pause: is called with the reason when no call of the task can succeed. Returns False when
            the task has changed since it was made ready, so that another try may help.
    """

    def __init__(
        self, ready: ReadyTask, claims: Claims, pause: Callable[[str], Awaitable[bool]]
    ) -> None:
        self._ready = ready
        self._task = ready.config
        self._claims = claims
        self._pause = pause
        self._inferrer = Inferrer(ready.pipeline, ready.client, ready.guard)
        self._writer = SinkWriter(ready)
        self._complete = Coalescer(claims.complete)

    async def process(self, claim: Claim, messages: Sequence[Message]) -> None:
        """Take a window to its end, or hand it back for another try.

        Raises:
            UnavailableError: Redis is away; the lease runs out and another worker goes on.
        """
        limit = self._task.limits.max_attempts
        timings = Timings()
        if len(messages) != claim.window.record.count:
            _log.error(
                "window %s: %d messages stored, %d expected",
                claim.window.id, len(messages), claim.window.record.count,
            )  # fmt: skip
        if claim.attempt > limit:
            error = f"its worker died or was lost in each of {limit} attempts (max_attempts)"
            await self._end(claim, messages, self._given_up(messages, error), timings)
            return
        try:
            outcome = await self._run_stages(claim, messages, timings)
        except TryLaterError as later:
            if later.counts and claim.attempt >= limit:
                error = f"given up after {claim.attempt} attempts (max_attempts): {later}"
                given_up = self._given_up(messages, error, later.outcome)
                await self._end(claim, messages, given_up, timings)
                return
            await self._claims.release(claim, wait_ms=later.wait_ms, counts=later.counts)
            _log.warning(
                "window %s: attempt %d failed, next in %d ms: %s",
                claim.window.id, claim.attempt, later.wait_ms, later,
            )  # fmt: skip
            return
        await self._end(claim, messages, outcome, timings)

    async def _run_stages(
        self, claim: Claim, messages: Sequence[Message], timings: Timings
    ) -> Outcome:
        """Infer and write, going on where an earlier attempt stopped.

        Raises:
            TryLaterError: not now.
        """
        stored = await self._claims.read_output(claim) if claim.attempt > 1 else _NOTHING
        outcome = Outcome() if stored.output is None else unpack_outcome(stored.output)
        if stored.output is None or outcome.retries:
            with timings.of("inference"):
                await self._infer(claim, messages, outcome, first_time=stored.output is None)
            if not await self._claims.store_output(claim, output=pack_outcome(outcome)):
                return outcome  # another worker has the window; completing it will be refused
            if outcome.retries and claim.attempt < self._task.limits.max_attempts:
                error = outcome.retries[0].error
                raise TryLaterError(error, self._backoff(claim.attempt), outcome=outcome)
            outcome.failures += outcome.retries
            outcome.retries = []
        if outcome.rows:
            with timings.of("sinks"):
                await self._write(claim, outcome, stored.sinks)
        return outcome

    async def _infer(
        self, claim: Claim, messages: Sequence[Message], outcome: Outcome, *, first_time: bool
    ) -> None:
        """Ask the model about all items, or about those that an earlier attempt left open."""
        if first_time:
            places = list(range(len(messages)))
        else:
            places = [p for f in outcome.retries for p in range(f.first, f.last + 1)]
            outcome.retries = []
        window, kept = self._window(claim, messages, places, outcome)
        if not len(window):
            return
        try:
            last_try = claim.attempt >= self._task.limits.max_attempts
            inferred = await self._inferrer.infer(window, call=claim.window.id, last_try=last_try)
        except InferenceMisconfiguredError as error:
            wait_ms = 0 if await self._pause(str(error)) else _CHANGED_MS
            raise TryLaterError(str(error), wait_ms, counts=False) from error
        except InferenceUnavailableError as error:
            raise await self._unavailable(claim, error) from error
        except InferenceError as error:
            raise TryLaterError(str(error), self._backoff(claim.attempt)) from error
        per_item = self._ready.pipeline.results_per == "item"
        rows = [
            type(row)(kept[row.ordinal], row.data) if per_item else row for row in inferred.rows
        ]
        outcome.model = inferred.model or outcome.model
        outcome.rows = sorted([*outcome.rows, *rows], key=lambda row: row.ordinal)
        for found, into in (
            (inferred.failures, outcome.failures),
            (inferred.retries, outcome.retries),
        ):
            into += [
                Failure.at(kept[place], kept[place], f.stage, f.error)
                for f in found
                for place in range(f.first, f.last + 1)
            ]

    def _window(
        self, claim: Claim, messages: Sequence[Message], places: list[int], outcome: Outcome
    ) -> tuple[Window[Any], list[int]]:
        """A window of the messages at some places, and the places that its items have."""
        pipeline, dedupe = self._ready.pipeline, self._task.window.dedupe
        items, kept, ids = [], [], []
        for place in places:
            try:
                item = pipeline.preprocess(messages[place])
                if item is not None and dedupe is not None:
                    ids.append(pipeline.item_id(item))
            except Exception as error:  # the product's own code
                text = one_line(f"{type(error).__name__}: {error}")
                outcome.failures.append(Failure.at(place, place, "preprocess", text))
                continue
            if item is not None:
                items.append(item)
                kept.append(place)
        if dedupe is not None:
            unique = kept_places(ids, dedupe)
            items, kept = [items[n] for n in unique], [kept[n] for n in unique]
        closed = claim.window
        record = closed.record
        window = Window(
            items,
            [messages[place] for place in kept],
            id=closed.public_id,
            task=self._task.id,
            key=record.key,
            start=None if record.start_ms is None else record.start_ms / 1000,
            end=None if record.end_ms is None else record.end_ms / 1000,
            close_reason=closed.reason,
            revision=record.revision,
        )
        return window, kept

    async def _unavailable(self, claim: Claim, error: InferenceUnavailableError) -> TryLaterError:
        """When to try again; while the breaker is open, tries do not count."""
        retry_after_ms = None if error.retry_after is None else round(error.retry_after * 1000)
        if error.status in (408, 429):
            wait_ms = self._backoff(claim.attempt, retry_after_ms)
            return TryLaterError(str(error), wait_ms, counts=retry_after_ms is None)
        open_ms = await self._ready.guard.failed()
        wait_ms = max(open_ms, self._backoff(claim.attempt, retry_after_ms))
        return TryLaterError(str(error), wait_ms, counts=not open_ms)

    async def _write(self, claim: Claim, outcome: Outcome, finished: frozenset[str]) -> None:
        closed = claim.window
        again = closed.record.again
        rows = outcome.rows
        if again is not None and again.ordinals and self._ready.pipeline.results_per == "item":
            rows = [type(row)(again.ordinals[row.ordinal], row.data) for row in rows]
        results = WindowResults(
            product=self._ready.product,
            task=self._task.id,
            partition=self._claims.scope.partition,
            key=closed.record.key,
            window_id=closed.public_id,
            base_id=closed.base_id,
            revision=closed.record.revision,
            attempt=attempts_of(claim),
            start_ms=closed.record.start_ms,
            end_ms=closed.record.end_ms,
            close_reason=closed.reason,
            closed_ms=closed.closed_ms,
            rows=rows,
        )
        written = await self._writer.write(results, finished)
        if written.later:
            if written.done:
                await self._claims.store_output(claim, sinks=sorted(written.done))
            raise TryLaterError(written.later, self._backoff(claim.attempt), outcome=outcome)
        if written.refused:
            # Nobody took them: their messages are dead letters, unless a sink made them so before.
            per_item = self._ready.pipeline.results_per == "item"
            places = [row.ordinal for row in outcome.rows] if per_item else None
            outcome.failures += self._refused(claim, places, outcome, written.refused)
            outcome.rows = []

    def _refused(
        self, claim: Claim, places: list[int] | None, outcome: Outcome, error: str
    ) -> list[Failure]:
        if places is None:
            gone = {p for f in outcome.failures for p in range(f.first, f.last + 1)}
            places = [p for p in range(claim.window.record.count) if p not in gone]
        return [Failure.at(place, place, "sink", error) for place in places]

    def _given_up(
        self, messages: Sequence[Message], error: str, outcome: Outcome | None = None
    ) -> Outcome:
        """All messages without a failure of their own are given up for this reason."""
        failures = [] if outcome is None else list(outcome.failures)
        gone = {place for f in failures for place in range(f.first, f.last + 1)}
        stage: Stage = "sink" if outcome is not None and not outcome.retries else "inference"
        failures += [
            Failure.at(place, place, stage, error)
            for place in range(len(messages))
            if place not in gone
        ]
        return Outcome(failures=failures)

    async def _end(
        self, claim: Claim, messages: Sequence[Message], outcome: Outcome, timings: Timings
    ) -> None:
        """Complete the window; what failed becomes dead letters in the same step."""
        window = claim.window
        now_ms = window.closed_ms if not outcome.failures else await self._claims.now_ms()
        dead = [
            dead_letter(claim, messages[place], place, f, now_ms)
            for f in outcome.failures
            for place in range(f.first, f.last + 1)
        ]
        counts = {"sunk": len(messages) - len(dead), "dead": len(dead), "windows": 1}
        entry = None
        if self._task.limits.ledger:
            entry = pack_entry(ledger_entry(claim, messages, outcome.model, len(dead), timings))
        completion = Completion(claim, counts, dead, entry, self._task.limits.ledger)
        if not await self._complete(completion):
            _log.warning("window %s: lost to another worker before its end", window.id)

    def _backoff(self, attempt: int, retry_after_ms: int | None = None) -> int:
        """Full jitter: a random wait below a bound that doubles with each attempt (AWS, 2015)."""
        inference = self._task.inference
        bound = min(to_ms(inference.retry_max), to_ms(inference.retry_base) * 2 ** (attempt - 1))
        wait_ms = random.randint(bound // 10, max(1, bound))
        return wait_ms if retry_after_ms is None else max(wait_ms, retry_after_ms)
