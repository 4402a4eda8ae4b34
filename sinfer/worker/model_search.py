"""Asking the model where one question does not settle it: what earlier attempts left, parts of a
window, groups of which one item kills workers, outages, and refusals of everything."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from http.client import TOO_MANY_REQUESTS

from sinfer.errors import InferenceError, InferenceMisconfiguredError, InferenceUnavailableError
from sinfer.http.retry_after import asked_s
from sinfer.store.work.claim import Claims, StoredOutput
from sinfer.types.message import Message
from sinfer.types.result import ResultRow
from sinfer.windows.dead_letters import one_line
from sinfer.worker.attempts import Attempt, Begun, TryLaterError, backoff_ms, store
from sinfer.worker.given_up import given_up_text
from sinfer.worker.item_search import Earlier, ItemSearch
from sinfer.worker.killer_search import KillerSearch, most_deaths, pack_search, reason, search_of
from sinfer.worker.model_step import Inferrer, Keep
from sinfer.worker.outcome import Failure, Outcome
from sinfer.worker.ready_task import MODEL, ReadyTask
from sinfer.worker.refusal_judge import RefusalJudge
from sinfer.worker.repeats import leave_out_repeats
from sinfer.worker.search_progress import SearchProgress, add

_log = logging.getLogger(__name__)

_PAUSED_MS = 1000
"""When a window is tried again that no call can help: until then every worker knows of the pause,
or of the task as it was changed meanwhile."""

SEARCHED_AFTER = 2
"""Workers that died with a window after which its items are tried in groups. The second one had
nothing but this window."""


class ModelSearch:
    """Asks about windows of one partition, as long and in as many parts as it takes.

    Args:
        ready: the task with its clients open.
        claims: the partition.
        pause: is called with the reason when no call of the task can succeed.
        judge: says whether everything is refused.
    """

    def __init__(
        self,
        ready: ReadyTask,
        claims: Claims,
        pause: Callable[[str], Awaitable[None]],
        judge: RefusalJudge,
    ) -> None:
        self._ready = ready
        self._task = ready.config
        self._claims = claims
        self._pause = pause
        self._judge = judge
        self._inferrer = Inferrer(ready.model)
        self._is_per_item = ready.model.is_per_item

    def progress_of(self, stored: StoredOutput) -> SearchProgress:
        """How far earlier attempts came with asking about the items."""
        progress = SearchProgress.read(stored.progress)
        if not self._is_per_item:  # as it was when that was stored, perhaps
            progress.begin("")
        return progress

    async def ask(
        self, attempt: Attempt, stored: StoredOutput, outcome: Outcome, begun: Begun | None = None
    ) -> None:
        """Ask the model about the items that no earlier attempt has an answer for.

        In the last try they are given up when there is no answer; the others keep their results.

        Args:
            attempt: of the window.
            stored: what earlier attempts left.
            outcome: what is known of it, to which it is added.
            begun: what the model said already in this attempt.

        Raises:
            TryLaterError: not now; what came of other items is stored.
        """
        places, call = _missing(attempt.messages, attempt.progress, stored, outcome), ""
        if stored.output is not None:
            # Other items than before, or a new question about the same ones: no model may take it
            # for one that it has answered already.
            call = f"{attempt.claim.window.id}#{attempt.claim.attempt}"
        try:
            await self._infer(attempt, outcome, places, call, begun)
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
        error = given_up_text(attempt, later)
        outcome.failures += [
            Failure.at(place, place, "inference", error)
            for place in places
            if place not in known and place not in outcome.filtered
        ]

    async def ask_in_groups(
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
            await store(self._claims, attempt, search=pack_search(search), progress=forgotten)
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
        leave_out_repeats(self._ready.model, attempt.messages, found)
        return found

    async def _infer_unsplit(
        self, attempt: Attempt, search: KillerSearch, places: list[int]
    ) -> Outcome:
        """Results do not belong to single items: the window stands and falls as a whole."""
        claim = attempt.claim
        found = search.outcome or Outcome()
        if claim.deaths > max(SEARCHED_AFTER, self._task.limits.max_attempts):
            error = reason(claim.deaths, alone=False)
            found.failures += [Failure.at(place, place, "inference", error) for place in places]
        else:
            await self._infer(attempt, found, places, f"{claim.window.id}#{claim.attempt}")
        return found

    async def _infer(
        self,
        attempt: Attempt,
        outcome: Outcome,
        places: list[int],
        call: str = "",
        begun: Begun | None = None,
    ) -> None:
        """Ask the model about the items at some places, and add to the outcome what it says.

        Raises:
            TryLaterError: not now, for those that are left in ``attempt.pending``; what came of the
                others is stored, and in the outcome.
            LostWindowError: the window is not held any more.
        """
        claim, progress = attempt.claim, attempt.progress
        todo = progress.todo
        known = len(outcome.failures) if begun is None else 0
        if begun is None:
            model = self._ready.model
            begun = Begun(*model.window_of(claim, attempt.messages, places, outcome))
        window, kept = begun.window, begun.kept
        attempt.pending = list(kept)
        if not kept:
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
        search.first = begun.answer

        async def keep(found: Outcome) -> None:
            nonlocal is_known
            step, left = self._placed(found, kept), None
            if not is_known:
                step.failures = [*outcome.failures[known:], *step.failures]
                step.filtered = outcome.filtered
            if not is_known or search.has_new_parts:
                left = [[kept[n] for n in part] for part in search.todo]
            is_known, search.has_new_parts = True, False
            progress.reason = progress.reason or search.reason
            await store(self._claims, attempt, progress=progress.step(step, left))

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
        later = await self._unavailable(attempt, error)
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
                await store(self._claims, attempt, progress=forgotten)
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
            await store(self._claims, attempt, progress=progress.state())

    async def _later(self, attempt: Attempt, error: InferenceError) -> TryLaterError:
        """When to try again what the model gave no answer to."""
        if isinstance(error, InferenceMisconfiguredError):
            await self._pause(str(error))
            wait_ms = 0 if self._ready.is_alone else _PAUSED_MS
            return TryLaterError(str(error), wait_ms, counts=False)
        if isinstance(error, InferenceUnavailableError):
            return await self._unavailable(attempt, error)
        attempt.answered.add(MODEL)
        counts = attempt.shared_failure is None
        if not counts:
            await self._go_alone(attempt)
        return TryLaterError(str(error), self._backoff(attempt), counts=counts)

    async def _go_alone(self, attempt: Attempt) -> None:
        """A call of several windows had no answer: one of them may be to blame. Each is asked about
        alone in its next attempt, since something is stored of this one."""
        await store(self._claims, attempt, progress=attempt.progress.state())

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
                await store(self._claims, attempt, progress=forgotten)
            wait_ms = max(held.wait_ms, self._backoff(attempt))
            away = {MODEL: one_line(held.why)} if refusal.stage == "inference" else None
            raise TryLaterError(held.why, wait_ms, counts=held.counts, away=away)
        if refusal.is_sample:
            await self._inferrer.go_on(search, keep)

    async def _unavailable(
        self, attempt: Attempt, error: InferenceUnavailableError
    ) -> TryLaterError:
        """When to try again.

        A request may be what a model dies of or hangs on, so these tries count, until the breaker
        opens: then the model is unavailable to all. What it never began with does not count.
        """
        wait_ms = max(self._backoff(attempt), round(asked_s(error.retry_after) * 1000))
        shared = attempt.shared_failure
        if shared is not None:
            open_ms = shared.breaker_ms
        else:
            is_limit = error.status == TOO_MANY_REQUESTS
            open_ms = 0 if is_limit else await self._ready.guard.failed()
        wait_ms = max(wait_ms, open_ms)
        is_outage = bool(open_ms) or error.not_begun or error.retry_after is not None
        if shared is not None and not is_outage:
            await self._go_alone(attempt)
            is_outage = True
        away = {MODEL: one_line(str(error))}
        return TryLaterError(str(error), wait_ms, counts=not is_outage, away=away)

    def _backoff(self, attempt: Attempt) -> int:
        tries = attempt.claim.attempt + attempt.claim.excused
        shared = attempt.shared_failure
        return backoff_ms(self._task.inference, tries, None if shared is None else shared.jitter)


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
