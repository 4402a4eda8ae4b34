"""A window's way: claimed, asked about, written to its sinks, completed."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property

import msgspec

from sinfer.aio.batching import Batcher
from sinfer.store.boards.refusals import RefusalBoard
from sinfer.store.work.claim import Claim, Claims, StoredOutput
from sinfer.types.message import Message
from sinfer.types.result import ResultRow
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.worker.attempts import (
    Attempt,
    Begun,
    LostWindowError,
    TryLaterError,
    backoff_ms,
    given_up_text,
)
from sinfer.worker.completion import completion_of
from sinfer.worker.killer_search import KillerSearch, most_deaths, pack_search, reason, search_of
from sinfer.worker.model_search import SEARCHED_AFTER, ModelSearch
from sinfer.worker.outcome import Failure, Outcome, Refused, WindowEnd, pack_outcome, unpack_outcome
from sinfer.worker.ready_task import MODEL, ReadyTask
from sinfer.worker.refusal_judge import Held, RefusalJudge
from sinfer.worker.result_keys import name_results
from sinfer.worker.sink_step import Written, write_sinks

_log = logging.getLogger(__name__)

_NOTHING = StoredOutput(None, frozenset())

_COMPLETED_AT_ONCE = 200
"""Windows that are completed in one round trip."""

_UNREADABLE_MS = 30_000
"""How long a window waits whose record cannot be read."""

_DEATHS_WITH_RESULTS = 10
"""Before so many workers have died with a window whose results are known, none of them is given up.
Sinks may have them already, and what has a result should not become a dead letter as well."""


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
        self._end = Batcher(claims.complete, max_size=_COMPLETED_AT_ONCE)

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
        is_last = claim.attempt >= self._task.limits.max_attempts
        tried = claim.attempt + claim.waits > 1
        attempt = Attempt(claim, messages, is_last, may_have_been_tried=tried)
        if claim.window.problem:
            return await self._wait_unread(attempt)
        try:
            stored, outcome = _NOTHING, Outcome()
            if attempt.may_have_been_tried:
                stored, outcome = _read(claim, await self._claims.read_output(claim))
            if claim.attempt > self._task.limits.max_attempts:
                outcome = self._broken_off(attempt, stored, outcome)
            else:
                if stored.output is None or outcome.retries:
                    outcome = await self._ask(attempt, stored, outcome)
                if outcome.rows:
                    await self._write(attempt, stored, outcome)
        except TryLaterError as later:
            if not (later.counts and attempt.is_last):
                return await self._hand_back(attempt, later)
            outcome = self._given_up(messages, given_up_text(attempt, later), later.outcome)
        except LostWindowError:
            _log.warning("window %s: lost to another worker before its end", claim.window.id)
            return None
        return await self._complete(attempt, outcome)

    # --- claimed -> asked ---

    async def _ask(self, attempt: Attempt, stored: StoredOutput, outcome: Outcome) -> Outcome:
        """Ask the model about the items that have no answer yet, and keep what it says.

        Raises:
            TryLaterError: not now.
        """
        claim, search = attempt.claim, None
        began_s = time.monotonic()
        try:
            if claim.deaths >= SEARCHED_AFTER:
                search = b""
                attempt.progress = self._search.progress_of(stored)
                outcome = await self._search.ask_in_groups(attempt, stored, outcome)
            elif attempt.may_have_been_tried:
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
            answer = await model.ask(window, len(kept), key)
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

    # --- asked -> written ---

    async def _write(self, attempt: Attempt, stored: StoredOutput, outcome: Outcome) -> None:
        """Write the sinks that have not got the results.

        Raises:
            TryLaterError: some of them are unavailable.
        """
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
            outcome.failures += self._refused(len(attempt.messages), outcome)
        finally:
            attempt.timings.sinks = round((time.monotonic() - began_s) * 1000)

    async def _write_rows(
        self, attempt: Attempt, outcome: Outcome, rows: list[ResultRow], finished: frozenset[str]
    ) -> Written:
        """Write some results of the outcome, and note in it which of them are refused."""
        results = name_results(self._ready, self._claims.scope, attempt, rows)
        began_s = time.monotonic()

        async def stands(sink: str, reason: str) -> Held | None:
            return await self._judge.holds(
                attempt, "sink", reason, sink=sink, items=len(attempt.messages), began_s=began_s
            )

        # Sinks know results by names that may differ from their places in the window.
        named = {row.ordinal: n.ordinal for row, n in zip(rows, results.rows, strict=True)}
        refused = {named[r.ordinal]: r for r in outcome.refused if r.ordinal in named}
        written = await write_sinks(self._ready, results, finished, refused, stands)
        attempt.answered |= written.answered
        new, known, collided = outcome.confirmed
        more = written.confirmed
        outcome.confirmed = (new + more.new, known + more.known, collided + more.collided)
        if refused or written.refused:
            places = {name: place for place, name in named.items()}
            outcome.refused = [r for r in outcome.refused if r.ordinal not in named] + [
                Refused(places[name], found.error, found.by_fallback)
                for name, found in sorted(written.refused.items())
            ]
        return written

    async def _write_in_groups(
        self, attempt: Attempt, stored: StoredOutput, outcome: Outcome
    ) -> None:
        """Write some results at a time: one of them may be what workers die of.

        Raises:
            TryLaterError: sinks are unavailable; what was written is not written again.
        """
        claim = attempt.claim
        rows = {row.ordinal: row for row in outcome.rows}
        search = search_of(stored.search, "sink")
        if search is None:
            # Without a note of it nobody knows whether a worker ever died of writing.
            search = KillerSearch("sink", [list(rows)])
        search.note_death(claim.deaths, _DEATHS_WITH_RESULTS)
        given_up = {o: reason(search.hits[o], alone=True) for o in search.blamed}
        if claim.deaths > max(_DEATHS_WITH_RESULTS, most_deaths(len(rows))):
            given_up |= dict.fromkeys(search.give_up(), reason(claim.deaths, alone=False))
        known = {found.ordinal for found in outcome.refused}
        outcome.refused += [
            Refused(ordinal, one_line(error))
            for ordinal, error in given_up.items()
            if ordinal not in known
        ]
        while group := search.next_group(claim.deaths):
            if not await self._claims.store_output(
                claim, output=pack_outcome(outcome), search=pack_search(search)
            ):
                return  # another worker has the window; completing it will be refused
            part = [rows[ordinal] for ordinal in group if ordinal in rows]
            written = await self._write_rows(attempt, outcome, part, stored.sinks)
            if written.away:
                raise self._sinks_away(claim, written, outcome)
        outcome.failures += self._refused(len(attempt.messages), outcome)

    def _sinks_away(self, claim: Claim, written: Written, outcome: Outcome) -> TryLaterError:
        # An outage, however long, is no reason to give results up: it burns no attempt.
        return TryLaterError(
            "; ".join(f"{what}: {error}" for what, error in written.away.items()),
            written.wait_ms + self._backoff(claim),
            counts=False,
            away=written.away,
            outcome=outcome,
        )

    def _refused(self, messages: int, outcome: Outcome) -> list[Failure]:
        """The messages whose results nobody took. Where results are not those of single messages
        it cannot be told whose one is, so that all of the window are given up."""
        if not outcome.refused:
            return []
        if self._ready.pipeline.results_per == "item":
            return [Failure(r.ordinal, r.ordinal, "sink", r.error) for r in outcome.refused]
        gone = {p for f in outcome.failures for p in range(f.first, f.last + 1)}
        error = outcome.refused[0].error
        places = (p for p in range(messages) if p not in gone)
        return [Failure(place, place, "sink", error) for place in places]

    def _given_up(
        self, messages: Sequence[Message], error: str, outcome: Outcome | None = None
    ) -> Outcome:
        """All messages without a failure of their own are given up for this reason."""
        failures = [] if outcome is None else [*outcome.failures]
        if outcome is not None:
            failures += self._refused(len(messages), outcome)
        gone = {place for f in failures for place in range(f.first, f.last + 1)}
        filtered = [] if outcome is None else outcome.filtered
        gone |= set(filtered)
        stage: Stage = "sink" if outcome is not None and not outcome.retries else "inference"
        failures += [
            Failure.at(place, place, stage, error)
            for place in range(len(messages))
            if place not in gone
        ]
        confirmed = (0, 0, 0) if outcome is None else outcome.confirmed
        return Outcome(failures=failures, confirmed=confirmed, filtered=filtered)

    def _broken_off(self, attempt: Attempt, stored: StoredOutput, outcome: Outcome) -> Outcome:
        """No attempt of the window came to its end."""
        tried = attempt.claim.attempt - 1
        error = f"it was broken off in each of {tried} attempts (max_attempts)"
        known = None if stored.output is None else outcome
        return self._given_up(attempt.messages, f"{error}; the worker's log says why", known)

    # --- written -> completed, or another try ---

    async def _complete(self, attempt: Attempt, outcome: Outcome) -> WindowEnd | None:
        """End the window; what failed becomes dead letters in the same step."""
        window = attempt.claim.window
        if attempt.may_have_been_tried:
            await self._claims.note_answers(attempt.answered, self._ready.labels)
        now_ms = window.closed_ms if not outcome.failures else await self._claims.now_ms()
        sinks = list(self._ready.sinks) if outcome.rows else ()
        completion = completion_of(attempt, outcome, sinks, now_ms, self._task.limits.ledger)
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
            end = await self._complete(attempt, Outcome(failures=failures))
            _log.error("window %s: %d messages %s", claim.window.id, count, error)
            return end
        await self._claims.note_unreadable(claim)
        await self._claims.release(claim, wait_ms=_UNREADABLE_MS)
        _log.error("window %s waits: %s", claim.window.id, problem)
        return WindowEnd(again=one_line(problem))

    def _backoff(self, claim: Claim) -> int:
        return backoff_ms(self._task.inference, claim.attempt + claim.waits)


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
