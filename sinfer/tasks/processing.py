"""Processing one claimed window: infer, keep the output, write the sinks, complete."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Any

import msgspec

from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceUnavailableError,
    SinferError,
    SinkRejectedError,
    SinkUnavailableError,
)
from sinfer.messages import Message
from sinfer.results import ResultRow, WindowResults
from sinfer.tasks.catalogue import ReadyTask
from sinfer.tasks.coalescing import Coalescer
from sinfer.tasks.inference import Failure, Inferrer, Outcome
from sinfer.units import to_ms
from sinfer.windows.claims import Claim, Completion, PartitionClaims
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.window import Window

_log = logging.getLogger(__name__)

_SINK_TIMEOUT_S = 30.0


class _StoredOutcome(msgspec.Struct, array_like=True):
    """An outcome as it is kept for later attempts.

    Attributes:
        rows: the results.
        failures: first and last place, stage and error of what has none.
    """

    rows: list[ResultRow]
    failures: list[tuple[int, int, str, str]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_StoredOutcome)


class _TryLaterError(Exception):
    """The window has to be tried again.

    Attributes:
        wait_ms: not before so many milliseconds.
        counts: whether the attempt counts.
    """

    def __init__(self, error: str, wait_ms: int, *, counts: bool = True) -> None:
        super().__init__(error)
        self.wait_ms = wait_ms
        self.counts = counts


class WindowProcessor:
    """Processes the windows of one partition, many at once."""

    def __init__(self, ready: ReadyTask, claims: PartitionClaims) -> None:
        self._ready = ready
        self._task = ready.config
        self._claims = claims
        self._inferrer = Inferrer(ready.pipeline, ready.client)
        self._complete = Coalescer(claims.complete)

    async def process(self, claim: Claim, messages: Sequence[Message]) -> None:
        """Take a window to its end, or hand it back for another try.

        Raises:
            UnavailableError: Redis is away; the lease runs out and another worker goes on.
        """
        window = claim.window
        limit = self._task.limits.max_attempts
        if len(messages) != window.record.count and not window.shares_segments:
            _log.error(
                "window %s: %d messages stored, %d expected", window.id, len(messages),
                window.record.count,
            )  # fmt: skip
        if claim.attempt > limit:
            error = f"its worker died or was lost in each of {limit} attempts (max_attempts)"
            await self._end(claim, messages, Outcome(failures=[self._all(messages, error)]))
            return
        try:
            outcome = await self._outcome(claim, messages)
            await self._write(claim, outcome)
        except _TryLaterError as later:
            if later.counts and claim.attempt >= limit:
                error = f"given up after {claim.attempt} attempts (max_attempts): {later}"
                await self._end(claim, messages, Outcome(failures=[self._all(messages, error)]))
                return
            await self._claims.release(claim, wait_ms=later.wait_ms, counts=later.counts)
            _log.warning(
                "window %s: attempt %d failed, next in %d ms: %s",
                window.id, claim.attempt, later.wait_ms, later,
            )  # fmt: skip
            return
        await self._end(claim, messages, outcome)

    def _all(self, messages: Sequence[Message], error: str) -> Failure:
        return Failure(0, len(messages) - 1, "inference", error)

    # --- the stages ---

    async def _outcome(self, claim: Claim, messages: Sequence[Message]) -> Outcome:
        """The window's results: those of an earlier attempt, or new ones, which are kept."""
        if claim.attempt > 1:
            stored = (await self._claims.read_output(claim)).output
            if stored is not None:
                found = _decoder.decode(stored)
                return Outcome(found.rows, [Failure(*failure) for failure in found.failures])  # type: ignore[arg-type]
        window, places, outcome = self._window(claim, messages)
        if len(window):
            try:
                inferred = await self._inferrer.infer(window)
            except InferenceMisconfiguredError as error:
                _log.error("task %s: %s", self._task.id, error)
                wait_ms = to_ms(self._task.inference.retry_max)
                raise _TryLaterError(str(error), wait_ms, counts=False) from error
            except InferenceUnavailableError as error:
                wait_ms = self._backoff(claim.attempt, error.retry_after)
                raise _TryLaterError(str(error), wait_ms) from error
            except InferenceError as error:
                raise _TryLaterError(str(error), self._backoff(claim.attempt)) from error
            outcome.rows = inferred.rows
            outcome.failures += [
                Failure(places[f.first], places[f.last], f.stage, f.error)
                for f in inferred.failures
            ]
        kept = _StoredOutcome(
            outcome.rows, [(f.first, f.last, f.stage, f.error) for f in outcome.failures]
        )
        await self._claims.store_output(claim, output=_encoder.encode(kept))
        return outcome

    def _window(
        self, claim: Claim, messages: Sequence[Message]
    ) -> tuple[Window[Any], list[int], Outcome]:
        """Items of the messages, their places among these, and what cannot be an item any more."""
        items, kept, places = [], [], []
        outcome = Outcome()
        for place, message in enumerate(messages):
            try:
                item = self._ready.pipeline.preprocess(message)
            except Exception as error:
                text = f"preprocess: {type(error).__name__}: {error}"
                outcome.failures.append(Failure(place, place, "preprocess", text[:500]))
                continue
            if item is not None:
                items.append(item)
                kept.append(message)
                places.append(place)
        closed = claim.window
        record = closed.record
        window = Window(
            items,
            kept,
            id=closed.id,
            task=self._task.id,
            key=record.key,
            start=None if record.start_ms is None else record.start_ms / 1000,
            end=None if record.end_ms is None else record.end_ms / 1000,
            close_reason=closed.reason,
            revision=record.revision,
        )
        return window, places, outcome

    async def _write(self, claim: Claim, outcome: Outcome) -> None:
        """Write every sink that has not got the results yet."""
        if not outcome.rows:
            return
        finished: frozenset[str] = frozenset()
        if claim.attempt > 1:
            finished = (await self._claims.read_output(claim)).sinks
        closed = claim.window
        results = WindowResults(
            product=self._ready.product,
            task=self._task.id,
            partition=self._claims.scope.partition,
            key=closed.record.key,
            window_id=closed.id,
            base_id=closed.base_id,
            revision=closed.record.revision,
            attempt=claim.attempt,
            start_ms=closed.record.start_ms,
            end_ms=closed.record.end_ms,
            close_reason=closed.reason,
            closed_ms=closed.closed_ms,
            rows=outcome.rows,
        )
        names = [name for name in self._ready.sinks if name not in finished]
        written = await asyncio.gather(
            *(self._write_one(name, results) for name in names), return_exceptions=True
        )
        problems = {name: p for name, p in zip(names, written, strict=True) if p is not None}
        if not problems:
            return
        for problem in problems.values():
            if not isinstance(problem, SinferError):
                raise problem
        done = [name for name in names if name not in problems]
        if done:
            await self._claims.store_output(claim, sinks=done)
        text = "; ".join(f"sink {name}: {problem}" for name, problem in problems.items())
        raise _TryLaterError(text, self._backoff(claim.attempt))

    async def _write_one(self, name: str, results: WindowResults) -> None:
        try:
            async with asyncio.timeout(_SINK_TIMEOUT_S):
                await self._ready.sinks[name].write(results)
        except TimeoutError as error:
            raise SinkUnavailableError(f"no answer within {_SINK_TIMEOUT_S:.0f}s") from error
        except SinferError:
            raise
        except Exception as error:  # a product's own sink
            raise SinkRejectedError(f"{type(error).__name__}: {error}") from error

    async def _end(self, claim: Claim, messages: Sequence[Message], outcome: Outcome) -> None:
        """Complete the window; what failed becomes dead letters in the same step."""
        window = claim.window
        dead = [
            DeadLetter(
                message, failure.stage, failure.error, window.closed_ms, window.id, claim.attempt
            )
            for failure in outcome.failures
            for message in messages[failure.first : failure.last + 1]
        ]
        counts = {"sunk": len(messages) - len(dead), "dead": len(dead), "windows": 1}
        if not await self._complete(Completion(claim, counts, dead)):
            _log.warning("window %s: lost to another worker before its end", claim.window.id)

    def _backoff(self, attempt: int, retry_after_s: float | None = None) -> int:
        """Full jitter: a random wait below a bound that doubles with each attempt (AWS, 2015)."""
        if retry_after_s is not None:
            return int(retry_after_s * 1000)
        inference = self._task.inference
        bound = min(to_ms(inference.retry_max), to_ms(inference.retry_base) * 2 ** (attempt - 1))
        return random.randint(bound // 10, max(1, bound))
