"""Processing one claimed window: infer, keep the output, write the sinks, complete."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import copy
from http.client import TOO_MANY_REQUESTS

import msgspec

from sinfer.aio.batching import Batcher
from sinfer.errors import InferenceError, InferenceMisconfiguredError, InferenceUnavailableError
from sinfer.http.retry_after import asked_s
from sinfer.store.boards.refusals import RefusalBoard
from sinfer.store.history.ledger import pack_entry
from sinfer.store.partition.account import CONFIRMED_COUNTS, Count
from sinfer.store.work.claim import Claim, Claims, Completion, StoredOutput
from sinfer.types.message import Message
from sinfer.types.result import Confirmed, ResultRow
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.worker.attempts import Attempt, LostWindowError, TryLaterError, backoff_ms
from sinfer.worker.completion import dead_letter, ledger_entry
from sinfer.worker.endpoint_guard import GRACE_MS
from sinfer.worker.item_search import Earlier, ItemSearch
from sinfer.worker.killer_search import KillerSearch, most_deaths, pack_search, reason, search_of
from sinfer.worker.model_step import Inferrer, Keep
from sinfer.worker.outcome import Failure, Outcome, Refused, WindowEnd, pack_outcome, unpack_outcome
from sinfer.worker.ready_task import MODEL, ReadyTask
from sinfer.worker.refusal_judge import RefusalJudge
from sinfer.worker.result_keys import name_results
from sinfer.worker.search_progress import SearchProgress, add
from sinfer.worker.sink_step import SinkWriter, Written
from sinfer.worker.window_view import leave_out_repeats, window_of

_log = logging.getLogger(__name__)

_NOTHING = StoredOutput(None, frozenset())

_COMPLETED_AT_ONCE = 200
"""Windows that are completed in one round trip."""

_PAUSED_MS = 1000
"""When a window is tried again that no call can help: until then every worker knows of the pause,
or of the task as it was changed meanwhile."""

_UNREADABLE_MS = 30_000
"""How long a window waits whose record cannot be read."""

_SEARCHED_AFTER = 2
"""Workers that died with a window after which its items are tried in groups. The second one had
nothing but this window."""

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
        most_s = ready.config.inference.timeout.total_seconds() + GRACE_MS / 1000
        self._inferrer = Inferrer(
            ready.pipeline,
            ready.client,
            ready.guard,
            name=ready.name,
            most_s=None if ready.is_alone else most_s,
        )
        self._writer = SinkWriter(ready)
        self._is_per_item = ready.pipeline.results_per == "item"
        self._judge = RefusalJudge(ready, refusals, claims.scope.partition, pause)
        self._complete = Batcher(claims.complete, max_size=_COMPLETED_AT_ONCE)

    async def process(self, claim: Claim, messages: Sequence[Message]) -> WindowEnd | None:
        """Take a window to its end, or hand it back for another try.

        Returns:
            How the try ended; None when the window was lost to another worker.

        Raises:
            UnavailableError: Redis is away; the lease runs out and another worker goes on.
        """
        is_last = claim.attempt >= self._task.limits.max_attempts
        attempt = Attempt(claim, messages, is_last)
        if claim.window.problem:
            return await self._wait_unread(attempt)
        try:
            outcome = await self._run_stages(attempt)
        except TryLaterError as later:
            if later.counts and attempt.is_last:
                outcome = self._given_up(messages, _given_up_text(attempt, later), later.outcome)
            else:
                await self._hand_back(attempt, later)
                return WindowEnd(again=one_line(str(later)))
        except LostWindowError:
            _log.warning("window %s: lost to another worker before its end", claim.window.id)
            return None
        return await self._end(attempt, outcome)

    async def _wait_unread(self, attempt: Attempt) -> WindowEnd | None:
        """What is stored of the window cannot be read: perhaps a worker of another version can. In
        the end its messages are given up, as far as they are there."""
        claim, problem = attempt.claim, attempt.claim.window.problem
        if attempt.is_last:
            error = f"given up after {claim.attempt} attempts (max_attempts): {problem}"
            count = len(attempt.messages)
            failures = [Failure.at(place, place, "window", error) for place in range(count)]
            end = await self._end(attempt, Outcome(failures=failures))
            _log.error("window %s: %d messages %s", claim.window.id, count, error)
            return end
        await self._claims.note_unreadable(claim)
        await self._claims.release(claim, wait_ms=_UNREADABLE_MS)
        _log.error("window %s waits: %s", claim.window.id, problem)
        return WindowEnd(again=one_line(problem))

    async def _hand_back(self, attempt: Attempt, later: TryLaterError) -> None:
        claim = attempt.claim
        back = () if claim.is_first else attempt.answered
        await self._claims.release(
            claim, wait_ms=later.wait_ms, counts=later.counts, away=later.away, back=back
        )
        _log.warning(
            "window %s: attempt %d failed%s, next in %d ms: %s",
            claim.window.id, claim.attempt, "" if later.counts else " and does not count",
            later.wait_ms, later,
        )  # fmt: skip

    async def _run_stages(self, attempt: Attempt) -> Outcome:
        """Infer and write, going on where an earlier attempt stopped.

        Raises:
            TryLaterError: not now.
        """
        claim = attempt.claim
        stored = _NOTHING if claim.is_first else await self._claims.read_output(claim)
        stored, outcome = _read(claim, stored)
        if claim.attempt > self._task.limits.max_attempts:
            error = f"it was broken off in each of {claim.attempt - 1} attempts (max_attempts)"
            known = None if stored.output is None else outcome
            return self._given_up(attempt.messages, f"{error}; the worker's log says why", known)
        is_searched = claim.deaths >= _SEARCHED_AFTER
        if stored.output is None or outcome.retries:
            attempt.progress = SearchProgress.read(stored.progress)
            if not self._is_per_item:  # as it was when that was stored, perhaps
                attempt.progress.begin("")
            with attempt.timings.of("inference"):
                if is_searched:
                    outcome = await self._infer_in_groups(attempt, stored, outcome)
                else:
                    await self._infer_missing(attempt, stored, outcome)
            if attempt.is_last:
                outcome.failures += outcome.retries
                outcome.retries = []
            await self._store(
                attempt,
                output=pack_outcome(outcome),
                search=b"" if is_searched else None,
                progress=attempt.progress.forget(),
            )
            if outcome.retries:
                error = outcome.retries[0].error
                raise TryLaterError(error, self._backoff(claim), outcome=outcome)
        if outcome.rows:
            with attempt.timings.of("sinks"):
                if is_searched:
                    await self._write_in_groups(attempt, stored, outcome)
                else:
                    await self._write(attempt, outcome, stored.sinks)
        return outcome

    async def _store(
        self,
        attempt: Attempt,
        *,
        output: bytes | None = None,
        search: bytes | None = None,
        progress: Mapping[str, bytes] | None = None,
    ) -> None:
        """Keep something for later attempts.

        Raises:
            LostWindowError: the window is not held any more.
        """
        if not await self._claims.store_output(
            attempt.claim, output=output, search=search, progress=progress
        ):
            raise LostWindowError

    async def _infer_missing(
        self, attempt: Attempt, stored: StoredOutput, outcome: Outcome
    ) -> None:
        """Ask the model about the items that no earlier attempt has an answer for.

        In the last try they are given up when there is no answer; the others keep their results.

        Raises:
            TryLaterError: not now; what came of other items is stored.
        """
        places, call = _missing(attempt.messages, attempt.progress, stored, outcome), ""
        if stored.output is not None:
            # Other items than before, or a new question about the same ones: no model may take it
            # for one that it has answered already.
            call = f"{attempt.claim.window.id}#{attempt.claim.attempt}"
        try:
            await self._infer(attempt, outcome, places, call)
        except TryLaterError as later:
            if not (later.counts and attempt.is_last):
                raise
            self._give_up(attempt, outcome, places, later)

    def _give_up(
        self, attempt: Attempt, outcome: Outcome, places: list[int], later: TryLaterError
    ) -> None:
        """Give up what was still to be asked about; all of the places, where nothing is known."""
        if outcome.rows or outcome.retries or attempt.progress.todo is not None:
            places = attempt.pending
        known = {p for f in outcome.failures for p in range(f.first, f.last + 1)}
        error = _given_up_text(attempt, later)
        outcome.failures += [
            Failure.at(place, place, "inference", error)
            for place in places
            if place not in known and place not in outcome.filtered
        ]

    async def _infer_in_groups(
        self, attempt: Attempt, stored: StoredOutput, outcome: Outcome
    ) -> Outcome:
        """Ask the model about some items at a time: one of them may be what workers die of.

        Returns:
            The whole outcome.

        Raises:
            TryLaterError: not now; what came of other items is stored.
            LostWindowError: the window is not held any more.
        """
        claim, progress = attempt.claim, attempt.progress
        search = search_of(stored.search, "inference")
        if search is None:
            places = _missing(attempt.messages, progress, stored, outcome)
            search = KillerSearch.begin("inference", places, claim.deaths)
            search.outcome = Outcome(
                outcome.rows,
                outcome.failures,
                outcome.retries,
                outcome.model,
                filtered=outcome.filtered,
            )
        else:
            places = _missing(attempt.messages, SearchProgress(), stored, outcome)
            if progress.todo is not None and search.outcome is not None:
                # It is that of the group that was tried.
                add(search.outcome, progress.outcome)
                search.trying = [place for place in search.trying if place in progress.places]
        forgotten = progress.forget()
        if not self._is_per_item:
            return await self._infer_unsplit(attempt, search, places)
        found = search.outcome or Outcome()
        least = self._task.limits.max_attempts
        search.note_death(claim.deaths, least)
        known = {f.first for f in found.failures}
        found.failures += [
            Failure.at(place, place, "inference", reason(search.hits[place], alone=True))
            for place in search.blamed
            if place not in known
        ]
        if claim.deaths > max(least, most_deaths(len(places))):
            left = search.give_up()
            _log.error("window %s: %d items are given up", claim.window.id, len(left))
            error = reason(claim.deaths, alone=False)
            found.failures += [Failure.at(place, place, "inference", error) for place in left]
        while group := search.next_group(claim.deaths):
            search.outcome = found
            await self._store(attempt, search=pack_search(search), progress=forgotten)
            _log.warning(
                "window %s: %d workers died with it; trying %d of its %d items",
                claim.window.id, claim.deaths, len(group), len(places),
            )  # fmt: skip
            call = f"{claim.window.id}#{claim.attempt}@{group[0]}"
            try:
                await self._infer(attempt, found, group, call)
            except TryLaterError as later:
                if not (later.counts and attempt.is_last):
                    raise
                self._give_up(attempt, found, group, later)
                attempt.pending = search.give_up()[len(group) :]
                self._give_up(attempt, found, attempt.pending, later)
            forgotten = progress.forget()
        leave_out_repeats(self._ready, attempt.messages, found)
        return found

    async def _infer_unsplit(
        self, attempt: Attempt, search: KillerSearch, places: list[int]
    ) -> Outcome:
        """Results do not belong to single items: the window stands and falls as a whole."""
        claim = attempt.claim
        found = search.outcome or Outcome()
        if claim.deaths > max(_SEARCHED_AFTER, self._task.limits.max_attempts):
            error = reason(claim.deaths, alone=False)
            found.failures += [Failure.at(place, place, "inference", error) for place in places]
        else:
            await self._infer(attempt, found, places, f"{claim.window.id}#{claim.attempt}")
        return found

    async def _write_in_groups(
        self, attempt: Attempt, stored: StoredOutput, outcome: Outcome
    ) -> None:
        """Write some results at a time: one of them may be what workers die of.

        Raises:
            TryLaterError: sinks are away; what was written is not written again.
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

    async def _infer(
        self, attempt: Attempt, outcome: Outcome, places: list[int], call: str = ""
    ) -> None:
        """Ask the model about the items at some places, and add to the outcome what it says.

        Raises:
            TryLaterError: not now, for those that are left in ``attempt.pending``; what came of the
                others is stored, and in the outcome.
            LostWindowError: the window is not held any more.
        """
        claim, progress = attempt.claim, attempt.progress
        todo, known = progress.todo, len(outcome.failures)
        window, kept = window_of(self._ready, claim, attempt.messages, places, outcome)
        attempt.pending = list(kept)
        if not len(window):
            return
        if todo is None:
            progress.begin(f"{claim.token}@{places[0]}")
        is_known = todo is not None
        parts = None
        if todo is not None:
            at = {place: n for n, place in enumerate(kept)}
            groups = ([at[place] for place in part if place in at] for part in todo)
            parts = [group for group in groups if group]
        search = self._inferrer.begin(
            window,
            call=call or claim.window.id,
            names=kept,
            last_try=attempt.is_last,
            sample=not call,
            earlier=Earlier(parts, copy(progress.outcome) if is_known else None, progress.reason),
        )

        async def keep(found: Outcome) -> None:
            nonlocal is_known
            step = self._placed(found, kept)
            if not is_known:
                step.failures = [*outcome.failures[known:], *step.failures]
                step.filtered = outcome.filtered
                is_known = True
            progress.reason = progress.reason or search.reason
            left = [[kept[n] for n in part] for part in search.todo]
            await self._store(attempt, progress=progress.step(step, left))

        try:
            try:
                await self._search(attempt, search, keep, is_whole=not call)
            except InferenceUnavailableError as error:
                await self._without_answer(attempt, search, keep, error, is_whole=not call)
        except InferenceError as error:
            await self._note_reason(attempt, search)
            raise await self._later(attempt, error) from error
        finally:
            add(outcome, self._placed(search.outcome, kept))
            attempt.pending = [kept[n] for part in search.todo for n in part]
        attempt.answered.add(MODEL)

    async def _without_answer(
        self,
        attempt: Attempt,
        search: ItemSearch,
        keep: Keep,
        error: InferenceUnavailableError,
        *,
        is_whole: bool,
    ) -> None:
        """There is no answer about the items, or some of them. In the last try, and where that is
        no outage, the one is looked for that is to blame.

        Raises:
            TryLaterError: not now, or never.
            InferenceError: not now.
        """
        await self._note_reason(attempt, search)
        later = await self._unavailable(attempt.claim, error)
        is_over = later.counts and attempt.is_last
        if not is_over or not self._inferrer.look_for_culprit(search, error):
            raise later from error
        await keep(search.news())  # or the next attempt would begin where this one did
        try:
            await self._search(attempt, search, keep, is_whole=is_whole)
        except InferenceUnavailableError:
            if not search.is_void:
                raise
            if forgotten := attempt.progress.forget():
                await self._store(attempt, progress=forgotten)
            raise later from error

    def _placed(self, found: Outcome, kept: list[int]) -> Outcome:
        """What was found of items, by the places of their messages."""
        rows = found.rows
        if self._is_per_item and kept != list(range(len(kept))):
            rows = [ResultRow(kept[row.ordinal], row.data) for row in rows]
        failures, retries = (
            [
                Failure.at(kept[place], kept[place], f.stage, f.error)
                for f in part
                for place in range(f.first, f.last + 1)
            ]
            for part in (found.failures, found.retries)
        )
        return Outcome(rows, failures, retries, found.model)

    async def _note_reason(self, attempt: Attempt, search: ItemSearch) -> None:
        """Keep what was said first against an item: an outage must not hide it."""
        progress = attempt.progress
        if search.reason and not progress.reason:
            progress.reason = search.reason
            await self._store(attempt, progress=progress.state())

    async def _later(self, attempt: Attempt, error: InferenceError) -> TryLaterError:
        """When to try again what the model gave no answer to."""
        if isinstance(error, InferenceMisconfiguredError):
            await self._pause(str(error))
            wait_ms = 0 if self._ready.is_alone else _PAUSED_MS
            return TryLaterError(str(error), wait_ms, counts=False)
        if isinstance(error, InferenceUnavailableError):
            return await self._unavailable(attempt.claim, error)
        attempt.answered.add(MODEL)
        return TryLaterError(str(error), self._backoff(attempt.claim))

    async def _search(
        self, attempt: Attempt, search: ItemSearch, keep: Keep, *, is_whole: bool
    ) -> None:
        """Ask the model about items; when it refuses all of them, is it due to them?

        Raises:
            TryLaterError: it may refuse everything.
            InferenceError: not now.
        """
        began_s = time.monotonic()
        await self._inferrer.go_on(search, keep)
        refusal = search.refusal
        if is_whole and (costly := self._ready.halving.look_at(search)):
            await self._claims.note_costly(costly)
        if refusal is None or not is_whole:
            return
        held = await self._judge.holds(
            attempt,
            refusal.stage,
            refusal.reason,
            items=len(search.window) + len(search.before.failures),
            began_s=began_s,
            is_sample=refusal.is_sample,
        )
        if held is not None:
            if forgotten := attempt.progress.forget():  # no refusal stands, so all are asked again
                await self._store(attempt, progress=forgotten)
            wait_ms = max(held.wait_ms, self._backoff(attempt.claim))
            away = {MODEL: one_line(held.why)} if refusal.stage == "inference" else None
            raise TryLaterError(held.why, wait_ms, counts=held.counts, away=away)
        if refusal.is_sample:
            await self._inferrer.go_on(search, keep)

    async def _unavailable(self, claim: Claim, error: InferenceUnavailableError) -> TryLaterError:
        """When to try again.

        A request may be what a model dies of or hangs on, so these tries count, until the breaker
        opens: then the model is away for all. What the model never began with does not count.
        """
        wait_ms = max(self._backoff(claim), round(asked_s(error.retry_after) * 1000))
        open_ms = 0 if error.status == TOO_MANY_REQUESTS else await self._ready.guard.failed()
        wait_ms = max(wait_ms, open_ms)
        is_outage = bool(open_ms) or error.not_begun or error.retry_after is not None
        away = {MODEL: one_line(str(error))}
        return TryLaterError(str(error), wait_ms, counts=not is_outage, away=away)

    async def _write(self, attempt: Attempt, outcome: Outcome, finished: frozenset[str]) -> None:
        """Write the sinks that have not got the results.

        Raises:
            TryLaterError: some of them are away.
        """
        claim = attempt.claim
        refused = list(outcome.refused)
        written = await self._write_rows(attempt, outcome, outcome.rows, finished)
        if outcome.refused or refused or (written.away and written.done):
            # What was refused is known from now on, and is neither written nor told again.
            keeps = outcome.refused or refused or any(outcome.confirmed)
            output = pack_outcome(outcome) if keeps else None
            await self._claims.store_output(claim, output=output, sinks=sorted(written.done))
        if written.away:
            raise self._sinks_away(claim, written, outcome)
        outcome.failures += self._refused(len(attempt.messages), outcome)

    async def _write_rows(
        self, attempt: Attempt, outcome: Outcome, rows: list[ResultRow], finished: frozenset[str]
    ) -> Written:
        """Write some results of the outcome, and note in it which of them are refused."""
        results = name_results(self._ready, self._claims.scope, attempt, rows)
        # Sinks know results by names that may differ from their places in the window.
        named = {row.ordinal: n.ordinal for row, n in zip(rows, results, strict=True)}
        places = {name: place for place, name in named.items()}
        refused = {named[r.ordinal]: r for r in outcome.refused if r.ordinal in named}
        stands = self._judge.of_sinks(attempt, time.monotonic())
        written = await self._writer.write(results, finished, refused, stands)
        attempt.answered |= written.answered
        confirmed = Confirmed(*outcome.confirmed) + written.confirmed
        outcome.confirmed = (confirmed.new, confirmed.known, confirmed.collided)
        outcome.refused = [r for r in outcome.refused if r.ordinal not in named] + [
            Refused(places[name], found.error, found.by_fallback)
            for name, found in sorted(written.refused.items())
        ]
        return written

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

    async def _end(self, attempt: Attempt, outcome: Outcome) -> WindowEnd | None:
        """Complete the window; what failed becomes dead letters in the same step."""
        claim, messages = attempt.claim, attempt.messages
        window = claim.window
        if not claim.is_first:
            await self._claims.note_answers(attempt.answered, self._ready.labels)
        now_ms = window.closed_ms if not outcome.failures else await self._claims.now_ms()
        dead = [
            dead_letter(claim, messages[place], place, f, now_ms)
            for f in outcome.failures
            for place in range(f.first, f.last + 1)
        ]
        gone = {p for f in outcome.failures for p in range(f.first, f.last + 1)}
        filtered = [messages[place] for place in outcome.filtered if place not in gone]
        if filtered:
            _log.warning(
                "window %s: preprocess filters out %d of its %d messages, and did not when they"
                " were ingested: its code has changed, or is not pure",
                window.id, len(filtered), len(messages),
            )  # fmt: skip
        sunk = len(messages) - len(dead) - len(filtered)
        counts = {Count.SUNK: sunk, Count.DEAD: len(dead), Count.FILTERED: len(filtered)}
        counts[Count.WINDOWS] = 1
        counts[Count.RESULTS] = len(outcome.rows) - len(outcome.refused)
        counts[Count.FRUITLESS] = 0 if outcome.rows or outcome.refused else sunk
        counts |= dict(zip(CONFIRMED_COUNTS, outcome.confirmed, strict=True))
        counts[Count.TAKEN] = int(len(dead) < len(messages))
        sequences = [message.stream_seq for message in filtered]
        entry = None
        if self._task.limits.ledger:
            entry = pack_entry(
                ledger_entry(
                    claim,
                    messages,
                    outcome.model,
                    len(dead),
                    attempt.timings,
                    list(self._ready.sinks) if outcome.rows else (),
                    sequences,
                )
            )
        completion = Completion(claim, counts, dead, entry, self._task.limits.ledger, sequences)
        if not await self._complete(completion):
            _log.warning("window %s: lost to another worker before its end", window.id)
            return None
        error = outcome.failures[0].error if outcome.failures else ""
        return WindowEnd(counts[Count.RESULTS], len(dead), error)

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


def _missing(
    messages: Sequence[Message], progress: SearchProgress, stored: StoredOutput, outcome: Outcome
) -> list[int]:
    """The places of the items without an answer; what is known of others is put in the outcome."""
    places = list(range(len(messages)))
    if stored.output is not None:
        places = [p for f in outcome.retries for p in range(f.first, f.last + 1)]
        outcome.retries = []
    if progress.todo is not None:
        places = progress.places
        add(outcome, progress.outcome)
    return places


def _given_up_text(attempt: Attempt, later: TryLaterError) -> str:
    """Why items are given up: what was said against one of them first, and what came last."""
    first = attempt.progress.reason
    told = f"{first}; then: {later}" if first and first not in str(later) else str(later)
    return f"given up after {attempt.claim.attempt} attempts (max_attempts): {told}"
