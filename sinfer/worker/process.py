"""A window's way: claimed, asked about, written to its sinks, completed."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from functools import cached_property

import msgspec

from sinfer.aio.batching import Batcher
from sinfer.store.boards.refusals import RefusalBoard
from sinfer.store.history.ledger import LedgerEntry, pack_entry
from sinfer.store.partition.account import CONFIRMED_COUNTS, Count
from sinfer.store.work.claim import Claim, Claims, Completion, StoredOutput
from sinfer.store.work.contents import pack_members
from sinfer.types.message import Message
from sinfer.types.result import ResultRow
from sinfer.windows.dead_letters import one_line
from sinfer.worker.attempts import (
    Attempt,
    Begun,
    LostWindowError,
    Timings,
    TryLaterError,
    backoff_ms,
)
from sinfer.worker.given_up import (
    broken_off_text,
    dead_letter,
    given_up,
    given_up_text,
    refused_failures,
)
from sinfer.worker.model_search import SEARCHED_AFTER, ModelSearch
from sinfer.worker.outcome import Failure, Outcome, WindowEnd, pack_outcome, unpack_outcome
from sinfer.worker.ready_task import MODEL, ReadyTask
from sinfer.worker.refusal_judge import Held, RefusalJudge
from sinfer.worker.sink_search import write_in_groups
from sinfer.worker.sink_step import Written, write_rows

_log = logging.getLogger(__name__)

_NOTHING = StoredOutput(None, frozenset())

_COMPLETED_AT_ONCE = 200
"""Windows that are completed in one round trip."""

_UNREADABLE_MS = 30_000
"""How long a window waits whose record cannot be read."""


class WindowProcessor:
    """Processes the windows of one partition, many at once.

    Args:
        ready: the task with its clients open.
        claims: the partition.
        pause: is called with the reason when no call of the task can succeed. It does nothing when
            the task has changed since it was made ready, so that another try may help.
        refusals: what all workers have seen refused of the task; None where there are no others.
    """

    def __init__(
        self,
        ready: ReadyTask,
        claims: Claims,
        pause: Callable[[str], Awaitable[None]],
        refusals: RefusalBoard | None = None,
    ) -> None:
        self._ready = ready
        self._task = ready.config
        self._claims = claims
        self._pause = pause
        self._refusals = refusals

    @cached_property
    def _end(self) -> Batcher[Completion, bool]:
        return Batcher(self._claims.complete, max_size=_COMPLETED_AT_ONCE)

    @cached_property
    def _judge(self) -> RefusalJudge:
        partition = self._claims.scope.partition
        return RefusalJudge(self._ready, self._refusals, partition, self._pause)

    @cached_property
    def _search(self) -> ModelSearch:
        return ModelSearch(self._ready, self._claims, self._pause, self._judge)

    async def process(self, claim: Claim, messages: Sequence[Message]) -> WindowEnd | None:
        """Take a claimed window to its end, or hand it back for another try.

        Returns:
            How the try ended; None when the window was lost to another worker.

        Raises:
            UnavailableError: Redis is unavailable; the lease runs out and another worker goes on.
        """
        most = self._task.limits.max_attempts
        attempt = Attempt(
            claim,
            messages,
            is_last=claim.attempt >= most,
            number=attempts_of(claim),
            may_have_been_tried=claim.attempt + claim.excused > 1,
        )
        if claim.window.problem:
            return await self._wait_unread(attempt)
        try:
            stored, outcome = await self._claimed(attempt)
            if claim.attempt > most:
                known = None if stored.output is None else outcome
                outcome = self._given_up(attempt, broken_off_text(claim), known)
            else:
                outcome = await self._asked(attempt, stored, outcome)
                await self._written(attempt, stored, outcome)
        except TryLaterError as later:
            if not (later.counts and attempt.is_last):
                return await self._hand_back(attempt, later)
            outcome = self._given_up(attempt, given_up_text(attempt, later), later.outcome)
        except LostWindowError:
            _log.warning("window %s: lost to another worker before its end", claim.window.id)
            return None
        return await self._completed(attempt, outcome)

    async def _claimed(self, attempt: Attempt) -> tuple[StoredOutput, Outcome]:
        """What earlier attempts stored of the window, and the outcome in it."""
        if not attempt.may_have_been_tried:
            return _NOTHING, Outcome()
        shared = self._ready.shared_calls
        with nullcontext() if shared is None else shared.more_comes():
            stored = await self._claims.read_output(attempt.claim)
        return _read(attempt.claim, stored)

    # --- claimed -> asked ---

    async def _asked(self, attempt: Attempt, stored: StoredOutput, outcome: Outcome) -> Outcome:
        """Ask the model about the items that have no answer yet, and keep what it says.

        Raises:
            TryLaterError: not now.
        """
        if stored.output is not None and not outcome.retries:
            return outcome
        claim, search = attempt.claim, None
        began_s = time.monotonic()
        try:
            if claim.deaths >= SEARCHED_AFTER:
                search = b""
                attempt.progress = self._search.progress_of(stored)
                outcome = await self._search.ask_in_groups(attempt, stored, outcome)
            elif attempt.may_have_been_tried and not self._shares_again(claim, stored):
                attempt.progress = self._search.progress_of(stored)
                await self._search.ask(attempt, stored, outcome)
            else:
                await self._ask_at_once(attempt, outcome)
        finally:
            attempt.timings.inference = round((time.monotonic() - began_s) * 1000)
        if attempt.is_last:
            outcome.failures += outcome.retries
            outcome.retries = []
        progress = attempt.progress.forget() if attempt.progress.is_stored else None
        output = pack_outcome(outcome)
        if not await self._claims.store_output(
            claim, output=output, search=search, progress=progress
        ):
            raise LostWindowError
        if outcome.retries:
            error = outcome.retries[0].error
            raise TryLaterError(error, self._backoff(claim), outcome=outcome)
        return outcome

    async def _ask_at_once(self, attempt: Attempt, outcome: Outcome) -> None:
        """Ask about a window that nobody has asked about; where one question does not settle it,
        search on.

        Raises:
            TryLaterError: not now.
        """
        claim, model, count = attempt.claim, self._ready.model, len(attempt.messages)
        window, kept = model.window_of(claim, attempt.messages, range(count), outcome)
        if not kept:
            return
        answer = None
        if model.most is None or len(kept) <= model.most:
            key = f"{claim.window.id}/{kept[0]}+{len(kept)}"
            shared = self._ready.shared_calls
            if shared is None:
                answer = await model.ask(window, len(kept), key)
            else:
                answer = await shared.ask(window, key)
                attempt.shared_failure = answer.shared_failure
                if shared.problem:
                    await self._claims.note_costly(shared.problem)
            results = answer.results
            if results is not None and all(r.fate == "ok" for r in results):
                places = kept if model.is_per_item else range(len(results))
                outcome.rows = [
                    ResultRow(place, result.data)
                    for place, result in zip(places, results, strict=True)
                ]
                outcome.model = answer.model
                attempt.answered.add(MODEL)
                if self._ready.halving.in_a_row and answer.calls == 1:
                    self._ready.halving.took(len(kept))
                return
        await self._search.ask(attempt, _NOTHING, outcome, Begun(window, kept, answer))

    def _shares_again(self, claim: Claim, stored: StoredOutput) -> bool:
        """Whether nothing speaks against the window after earlier attempts, which had no answer, so
        that it may share a call as if there had been none."""
        return (
            self._ready.shared_calls is not None
            and claim.attempt == 1
            and not claim.deaths
            and stored == _NOTHING
        )

    # --- asked -> written ---

    async def _written(self, attempt: Attempt, stored: StoredOutput, outcome: Outcome) -> None:
        """Write the sinks that have not got the results.

        Raises:
            TryLaterError: some of them are unavailable.
        """
        if not outcome.rows:
            return
        began_s = time.monotonic()
        try:
            if attempt.claim.deaths >= SEARCHED_AFTER:
                await self._write_in_groups(attempt, stored, outcome)
                return
            refused = list(outcome.refused)
            written = await self._write_rows(attempt, outcome, outcome.rows, stored.sinks)
            if outcome.refused or refused or (written.away and written.done):
                # What was refused is known from now on, and is neither written nor told again.
                keeps = outcome.refused or refused or any(outcome.confirmed)
                output = pack_outcome(outcome) if keeps else None
                done = sorted(written.done)
                await self._claims.store_output(attempt.claim, output=output, sinks=done)
            if written.away:
                raise self._sinks_away(attempt.claim, written, outcome)
            if outcome.refused:
                outcome.failures += self._refused(attempt, outcome)
        finally:
            attempt.timings.sinks = round((time.monotonic() - began_s) * 1000)

    async def _write_rows(
        self, attempt: Attempt, outcome: Outcome, rows: list[ResultRow], finished: frozenset[str]
    ) -> Written:
        """Write some results of the outcome, and note in it which of them are refused."""
        began_s = time.monotonic()

        async def holds(sink: str, reason: str) -> Held | None:
            return await self._judge.holds(
                attempt, "sink", reason, sink=sink, items=len(attempt.messages), began_s=began_s
            )

        scope = self._claims.scope
        return await write_rows(self._ready, scope, attempt, outcome, rows, finished, holds)

    async def _write_in_groups(
        self, attempt: Attempt, stored: StoredOutput, outcome: Outcome
    ) -> None:
        """Write some results at a time: one of them may be what workers die of.

        Raises:
            TryLaterError: sinks are unavailable; what was written is not written again.
        """

        async def write(rows: list[ResultRow]) -> Written:
            return await self._write_rows(attempt, outcome, rows, stored.sinks)

        written = await write_in_groups(self._claims, attempt.claim, stored, outcome, write)
        if written is None:
            return  # another worker has the window; completing it will be refused
        if written.away:
            raise self._sinks_away(attempt.claim, written, outcome)
        outcome.failures += self._refused(attempt, outcome)

    def _refused(self, attempt: Attempt, outcome: Outcome) -> list[Failure]:
        count, is_per_item = len(attempt.messages), self._ready.model.is_per_item
        return refused_failures(count, outcome, is_per_item=is_per_item)

    def _sinks_away(self, claim: Claim, written: Written, outcome: Outcome) -> TryLaterError:
        # An outage, however long, is no reason to give results up: it burns no attempt.
        return TryLaterError(
            "; ".join(f"{what}: {error}" for what, error in written.away.items()),
            written.wait_ms + self._backoff(claim),
            counts=False,
            away=written.away,
            outcome=outcome,
        )

    # --- written -> completed, or another try ---

    async def _completed(self, attempt: Attempt, outcome: Outcome) -> WindowEnd | None:
        """End the window; what failed becomes dead letters in the same step."""
        window = attempt.claim.window
        if attempt.may_have_been_tried:
            await self._claims.note_answers(attempt.answered, self._ready.labels)
        now_ms = window.closed_ms if not outcome.failures else await self._claims.now_ms()
        sinks = list(self._ready.sinks) if outcome.rows else ()
        version = self._ready.pipeline.version
        completion = completion_of(
            attempt, outcome, sinks, now_ms, ledger=self._task.limits.ledger, version=version
        )
        if completion.filtered:
            _log.warning(
                "window %s: preprocess filters out %d of its %d messages, and did not when they"
                " were ingested: its code has changed, or is not pure",
                window.id, len(completion.filtered), len(attempt.messages),
            )  # fmt: skip
        if not await self._end(completion):
            _log.warning("window %s: lost to another worker before its end", window.id)
            return None
        error = outcome.failures[0].error if outcome.failures else ""
        results = len(outcome.rows) - len(outcome.refused)
        return WindowEnd(results, len(completion.dead), error)

    def _given_up(self, attempt: Attempt, error: str, known: Outcome | None) -> Outcome:
        count, is_per_item = len(attempt.messages), self._ready.model.is_per_item
        return given_up(count, error, known, is_per_item=is_per_item)

    async def _hand_back(self, attempt: Attempt, later: TryLaterError) -> WindowEnd:
        claim = attempt.claim
        back = attempt.answered if attempt.may_have_been_tried else ()
        await self._claims.release(
            claim, wait_ms=later.wait_ms, counts=later.counts, away=later.away, back=back
        )
        _log.warning(
            "window %s: attempt %d failed%s, next in %d ms: %s",
            claim.window.id, claim.attempt, "" if later.counts else " and does not count",
            later.wait_ms, later,
        )  # fmt: skip
        return WindowEnd(again=one_line(str(later)))

    async def _wait_unread(self, attempt: Attempt) -> WindowEnd | None:
        """What is stored of the window cannot be read: perhaps a worker of another version can. In
        the end its messages are given up, as far as they are there."""
        claim, problem = attempt.claim, attempt.claim.window.problem
        if attempt.is_last:
            error = f"given up after {claim.attempt} attempts (max_attempts): {problem}"
            count = len(attempt.messages)
            failures = [Failure.at(place, place, "window", error) for place in range(count)]
            end = await self._completed(attempt, Outcome(failures=failures))
            _log.error("window %s: %d messages %s", claim.window.id, count, error)
            return end
        await self._claims.note_unreadable(claim)
        await self._claims.release(claim, wait_ms=_UNREADABLE_MS)
        _log.error("window %s waits: %s", claim.window.id, problem)
        return WindowEnd(again=one_line(problem))

    def _backoff(self, claim: Claim) -> int:
        return backoff_ms(self._task.inference, claim.attempt + claim.excused)


def _read(claim: Claim, stored: StoredOutput) -> tuple[StoredOutput, Outcome]:
    """What an earlier attempt stored, and the outcome in it. One that cannot be read is as good as
    none: the model is asked again."""
    if stored.output is None:
        return stored, Outcome()
    try:
        return stored, unpack_outcome(stored.output)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _log.error("window %s: its stored output cannot be read: %s", claim.window.id, error)
        return StoredOutput(None, stored.sinks, stored.search), Outcome()


def attempts_of(claim: Claim) -> int:
    """How often the window was tried, before it was processed again included."""
    again = claim.window.record.reprocessing
    return claim.attempt + claim.deaths + (0 if again is None else again.attempts)


def completion_of(
    attempt: Attempt,
    outcome: Outcome,
    sinks: Sequence[str],
    now_ms: int,
    *,
    ledger: int,
    version: str,
) -> Completion:
    """How a window ends.

    Args:
        attempt: the window, and its messages.
        outcome: what became of its items.
        sinks: that its results went to.
        now_ms: the store's clock, for dead letters.
        ledger: how many entries the ledger keeps.
        version: of the pipeline.
    """
    claim, messages = attempt.claim, attempt.messages
    dead, gone = [], set()
    for failure in outcome.failures:
        for place in range(failure.first, failure.last + 1):
            dead.append(dead_letter(claim, messages[place], place, failure, now_ms))
            gone.add(place)
    filtered = [messages[p].stream_seq for p in outcome.filtered if p not in gone]
    sunk = len(messages) - len(dead) - len(filtered)
    counts = {Count.SUNK: sunk, Count.DEAD: len(dead), Count.FILTERED: len(filtered)}
    counts[Count.WINDOWS] = 1
    counts[Count.RESULTS] = len(outcome.rows) - len(outcome.refused)
    counts[Count.FRUITLESS] = 0 if outcome.rows or outcome.refused else sunk
    counts |= dict(zip(CONFIRMED_COUNTS, outcome.confirmed, strict=True))
    opened_by = claim.window.record.version
    counts[Count.OTHER_VERSION] = int(opened_by not in ("", version))
    counts[Count.TAKEN] = int(len(dead) < len(messages))
    entry = None
    if ledger:
        entry = pack_entry(
            ledger_entry(
                claim, messages, outcome.model, len(dead), attempt.timings, sinks, filtered
            )
        )
    return Completion(claim, counts, dead, entry, ledger, filtered)


def ledger_entry(
    claim: Claim,
    messages: Sequence[Message],
    model: str,
    dead: int,
    timings: Timings,
    sinks: Sequence[str] = (),
    filtered: Sequence[int] = (),
) -> LedgerEntry:
    """What the ledger notes of a window that ends.

    Args:
        claim: the window.
        messages: of the window, in order.
        model: name or version of the model.
        dead: how many of the messages were given up.
        timings: of the last attempt.
        sinks: that its results went to.
        filtered: stream sequences of the messages that ``preprocess`` filtered out.
    """
    window, record = claim.window, claim.window.record
    again = record.reprocessing
    return LedgerEntry(
        window=window.public_id,
        key=record.key,
        start_ms=record.start_ms,
        end_ms=record.end_ms,
        reason=window.reason,
        revision=record.revision,
        members=pack_members([message.stream_seq for message in messages]),
        count=len(messages),
        bytes=sum(len(message.data) for message in messages),
        closed_ms=window.closed_ms,
        claimed_ms=claim.claimed_ms,
        inference_ms=timings.inference,
        sinks_ms=timings.sinks,
        attempts=attempts_of(claim),
        dead=dead,
        model=model,
        kind="first" if again is None else again.kind,
        ordinals=[] if again is None else again.ordinals,
        incarnation=record.incarnation,
        sinks=list(sinks),
        filtered=pack_members(sorted(filtered)) if filtered else [],
    )
