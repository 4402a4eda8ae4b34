"""The search for bad items: what the model does not take as a whole is asked about in parts.

A request that the model refuses is halved until the culprit stands alone (design guarantee 8): of
64 items with one bad, 63 get results after at most 13 calls. The model is asked only about what it
refuses. Where ``build_request`` fails, its own parts are tried; where ``build_results`` does, the
answer is kept and cut by rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sinfer.errors import (
    HookError,
    InferenceError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
    SinferError,
)
from sinfer.hooks.call import Hook
from sinfer.types.result import ResultRow
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.windows.window import Window
from sinfer.worker.answer_rows import CutAnswer, cut_answer
from sinfer.worker.item_search import Earlier, ItemSearch, Places, Refusal
from sinfer.worker.likeness import likeness
from sinfer.worker.outcome import Failure, Outcome
from sinfer.worker.part_calls import PartCalls
from sinfer.worker.task_model import Answer, Checked, TaskModel, WrongNumberError

Keep: TypeAlias = Callable[[Outcome], Awaitable[None]]
"""Is given what an answer brought, while others are still to come."""


@dataclass(frozen=True, slots=True)
class _Refused:
    """Part of a window was refused, and it is not known for which of its items."""

    stage: Stage
    reason: str


@dataclass(slots=True)
class _Sorted:
    """What became of the items of a part, one by one.

    Attributes:
        results: of those that have one, by place.
        failed: the others that are known, by place: where they failed, and why.
        rest: parts that are still to be asked about.
    """

    results: dict[int, Checked] = field(default_factory=dict)
    failed: dict[int, tuple[Stage, str]] = field(default_factory=dict)
    rest: list[Places] = field(default_factory=list)


_Found: TypeAlias = list[Checked] | _Refused | _Sorted
"""All results of a part, in order; or what else became of it."""


class Inferrer:
    """Asks the model about windows of one task, part by part.

    Args:
        model: of the task.
    """

    def __init__(self, model: TaskModel) -> None:
        self._model = model
        self._per_item = model.is_per_item
        self._max_batch = model.most
        self._cut = Hook("results", "answer", cut_answer, task=model.name)

    async def infer(
        self, window: Window[Any], *, call: str = "", last_try: bool = False
    ) -> Outcome:
        """Results for a window, in several calls where it is larger than ``max_batch``.

        Args:
            window: the window.
            call: begins the idempotency keys of the calls; by default the window's id.
            last_try: look for a culprit even when the answer is one that nobody can read. Before,
                that counts as a fault of the model, which may have an answer later.

        Raises:
            InferenceUnavailableError, InferenceMisconfiguredError, InvalidResponseError: the whole
                window has to wait.
        """
        outcome, _ = await self.search(window, call=call, last_try=last_try)
        return outcome

    async def search(
        self, window: Window[Any], *, call: str = "", last_try: bool = False, sample: bool = False
    ) -> tuple[Outcome, Refusal | None]:
        """As ``infer``; tells besides when every item was refused.

        Args:
            window, call, last_try: as of ``infer``.
            sample: as of ``begin``.

        Returns:
            What became of the items, and why all of them were refused; None where they were not.
            After a sample the outcome lacks the items that were not asked about.
        """
        search = self.begin(window, call=call, last_try=last_try, sample=sample)
        await self.go_on(search)
        return search.outcome, search.refusal

    def begin(
        self,
        window: Window[Any],
        *,
        call: str = "",
        names: Sequence[int] = (),
        last_try: bool = False,
        sample: bool = False,
        earlier: Earlier | None = None,
    ) -> ItemSearch:
        """What ``go_on`` goes on with.

        Args:
            window: the items to be asked about.
            call, names, last_try, sample: as ``ItemSearch`` has them.
            earlier: what earlier attempts left; None where there were none.
        """
        earlier = earlier or Earlier()
        places, todo = range(len(window)), earlier.todo
        if todo is None:
            size = self._max_batch or len(window)
            todo = [list(places[first : first + size]) for first in range(0, len(window), size)]
        return ItemSearch(
            window,
            call or window.id,
            names or places,
            last_try,
            sample,
            todo,
            earlier.before or Outcome(),
            reason=earlier.reason,
        )

    async def go_on(self, search: ItemSearch, keep: Keep | None = None) -> None:
        """Ask about what is still to be asked about.

        Args:
            search: tells what that is, and has what was found afterwards. After an error it is
                as before the call that failed, and after a sample it can be gone on with as well.
            keep: is called with what was found whenever more is to be asked.

        Raises:
            InferenceUnavailableError, InferenceMisconfiguredError, InvalidResponseError: the rest
                of the window has to wait.
        """
        search.is_sampled = False
        calls: PartCalls[_Found] = PartCalls(
            self._answer, search, self._max_batch, self._model.unkept
        )
        try:
            while calls.begin(self._width(search)):
                refused = None
                brought = await calls.ended()
                for part, found in brought:
                    refused = self._note(found, part, search) or refused
                if keep is not None and brought and search.todo:
                    await keep(search.news())
                calls.kept()
                if refused is not None and await self._sample_after(calls, search, refused, keep):
                    search.is_sampled = True
                    break
        finally:
            await calls.end()
        search.sort()
        if calls.error is not None:
            raise calls.error
        if search.unanswered is not None:
            await self._make_sure(search)

    def _width(self, search: ItemSearch) -> int:
        """How many calls may be under way; one, where the next answer may end the search."""
        is_doubted = search.is_refused and search.sample and not search.is_taken
        if is_doubted or search.unanswered is not None:
            return 1
        return self._model.calls_at_once

    async def _sample_after(
        self, calls: PartCalls[_Found], search: ItemSearch, refused: _Refused, keep: Keep | None
    ) -> bool:
        """Sample, unless the calls that are under way take anything; see ``_sample``."""
        while calls.under_way:
            for part, found in await calls.ended():
                self._note(found, part, search)
            calls.kept()
        if calls.error is not None or search.is_taken or not search.todo:
            return False
        return await self._sample(search, refused, keep)

    def look_for_culprit(self, search: ItemSearch, error: InferenceUnavailableError) -> bool:
        """From now on, no answer about a part of the window counts as a refusal of it, and so does
        that which there was none about. One item may be what the model hangs on, or breaks down of.

        Returns:
            Whether there is anything to be looked for.
        """
        if not search.todo or not self._per_item or len(search.window) == 1:
            return False
        search.unanswered = set()
        self._note(self._unanswered(search.todo[0], search, error), search.todo[0], search)
        return True

    def _unanswered(
        self, part: Places, search: ItemSearch, error: InferenceUnavailableError
    ) -> _Refused:
        if len(part) == 1 and search.unanswered is not None:
            search.unanswered.add(part[0])
        return _Refused("inference", search.with_first_reason(str(error)))

    async def _make_sure(self, search: ItemSearch) -> None:
        """Ask once more about single items that there was no answer about: it may have been chance.
        When there was none about any, nobody is to blame.

        Raises:
            InferenceUnavailableError: there was none about any.
        """
        if not search.is_taken:
            search.begin_again()
            raise InferenceUnavailableError("there was no answer about any of the items")
        for failure in search.outcome.failures[:]:
            if failure.first in (search.unanswered or ()):
                found = await self._answer([failure.first], search)
                if isinstance(found, list):
                    search.outcome.failures.remove(failure)
                    self._take(dict(zip([failure.first], found, strict=False)), search)

    def _note(self, found: _Found, part: Places, search: ItemSearch) -> _Refused | None:
        """Note what became of a part, and what is still to be asked of it.

        Returns:
            Why everything may be refused, when others should be asked about to see.
        """
        at = search.remove(part)
        if isinstance(found, list):
            search.taken(len(part))
            self._take(dict(zip(part, found, strict=False)) if self._per_item else found, search)
            return None
        if isinstance(found, _Sorted):
            self._take(found.results, search)
            for place, (stage, reason) in sorted(found.failed.items()):
                search.refused(Failure.at(place, place, stage, reason))
            search.insert(at, found.rest)
            return None
        stage, reason = found.stage, found.reason
        if len(part) == 1 or not self._per_item:
            search.refused(Failure.at(part[0], part[-1], stage, reason))
            return found if search.wants_a_sample else None
        search.refused_whole(part, stage, reason)
        middle = len(part) // 2
        search.insert(at, [part[:middle], part[middle:]])
        # Which items the hook fails for only calls can tell here, and it may well be for all.
        is_hook = stage == "results" and search.sample and not search.is_taken
        return found if is_hook else None

    async def _answer(self, part: Places, search: ItemSearch) -> _Found:
        """The results of part of a window; or where it was refused, and why."""
        window = search.window.at(part)
        answer, search.first = search.first, None
        if answer is None:
            answer = await self._model.ask(window, len(part), search.key(part))
        search.calls += answer.calls
        if answer.said:
            search.note(answer.said)
        search.outcome.model = answer.model or search.outcome.model
        if answer.results is not None:
            return answer.results
        try:
            return await self._refused(answer, window, part, search)
        except (InferenceRejectedError, InferenceServerError) as error:
            return _Refused("inference", str(error))
        except InvalidResponseError as error:
            search.note(str(error))
            if not search.last_try:
                raise
            return _Refused("inference", str(error))
        except InferenceUnavailableError as error:
            if search.unanswered is None or error.not_begun or error.retry_after is not None:
                raise
            return self._unanswered(part, search, error)

    async def _refused(
        self, answer: Answer, window: Window[Any], part: Places, search: ItemSearch
    ) -> _Refused | _Sorted:
        """Where and why a part was refused.

        Raises:
            InferenceError: by the model; or there was no answer.
        """
        error = answer.error
        assert error is not None
        if answer.stage == "request":
            return await self._without_request(window, part, search, error)
        if answer.stage == "inference" or not isinstance(error, _OF_RESULTS):
            raise error
        if not self._per_item or len(part) == 1:
            return _Refused(_stage_of(error), str(error))
        return await self._by_rows(window, part, answer.response, error)

    async def _sample(self, search: ItemSearch, refused: _Refused, keep: Keep | None) -> bool:
        """Ask about an item in the middle and others at the ends: are all refused alike?

        What becomes of them is noted, and they are not asked about again.
        """
        search.sample = False
        left = [place for part in search.todo for place in part]
        ends = left[-1:] if search.outcome.failures else [left[0], left[-1]]
        for place in dict.fromkeys((left[len(left) // 2], *ends) if left else ()):
            alone = search.put_first(place)
            found = await self._answer(alone, search)
            self._note(found, alone, search)
            if keep is not None:
                await keep(search.news())
            is_alike = search.is_like_the_others(refused.stage, refused.reason)
            if not isinstance(found, _Refused) or not is_alike:
                return False
        return True

    # --- code of the product that fails ---

    async def _without_request(
        self, window: Window[Any], part: Places, search: ItemSearch, error: SinferError
    ) -> _Refused | _Sorted:
        """Which items no request can be built of; the others are asked about together, where that
        works, and else in the largest parts of which one can be built."""
        if not self._per_item or len(part) == 1:
            return _Refused("request", str(error))
        found = _Sorted()
        await self._try_requests(window, part, error, found)
        if not found.failed:
            search.refused_whole(part, "request", str(error))
        elif found.rest:
            found.rest = [[place for group in found.rest for place in group]]
        return found

    async def _try_requests(
        self, window: Window[Any], part: Places, error: SinferError, found: _Sorted
    ) -> None:
        if len(part) == 1:
            found.failed[part[0]] = ("request", str(error))
            return
        middle = len(part) // 2
        for first, last in ((0, middle), (middle, len(part))):
            half = window[first:last]
            try:
                await self._model.request_hook.wait(half)
            except HookError as failed:
                await self._try_requests(half, part[first:last], failed, found)
            else:
                found.rest.append(part[first:last])

    async def _by_rows(
        self, window: Window[Any], part: Places, response: Any, error: SinferError
    ) -> _Refused | _Sorted:
        """For which items ``build_results`` fails, by an answer that is there already.

        A wrong number of results is an item's fault only where the number follows from the items:
        code that returns one result whatever it is given would be right about each item alone.
        """
        stage = _stage_of(error)
        unknown: _Refused | _Sorted = _Refused(stage, str(error))
        if isinstance(error, WrongNumberError):
            unknown = _Sorted(failed=dict.fromkeys(part, (stage, str(error))))
        cut = self._cut_answer(response, len(part))
        if cut is None:
            return unknown
        trial = _Trial(cut, error)
        try:
            await self._try_rows(window, trial, 0, len(part))
        except _OtherwiseError:  # it has no rows of this kind, by all appearance
            return unknown
        if isinstance(error, WrongNumberError) and not trial.explains(error.found):
            return unknown
        if not trial.failed and not cut.is_certain:
            return unknown
        found = _Sorted(failed={part[n]: (stage, why) for n, why in trial.failed.items()})
        if cut.is_certain:
            found.results = {part[n]: result for n, result in trial.results.items()}
        elif trial.results:
            found.rest = [[part[n] for n in sorted(trial.results)]]
        return found

    def _cut_answer(self, response: Any, items: int) -> CutAnswer | None:
        try:
            found: CutAnswer | None = self._cut(response, items)
        except HookError:  # an answer of a product's own client, that does not like to be looked at
            return None
        return found

    async def _try_rows(self, window: Window[Any], trial: _Trial, first: int, last: int) -> None:
        """Try ``build_results`` on part of an answer of which it failed on the whole.

        Raises:
            _OtherwiseError: it fails in another way there.
        """
        middle = (first + last) // 2
        for at, end in ((first, middle), (middle, last)):
            await asyncio.sleep(0)
            try:
                response = Hook("results", "answer", trial.cut.rows)(at, end)
                results = await self._model.results_of(window[at:end], end - at, response)
            except _OF_RESULTS as error:
                if not trial.is_alike(error):
                    raise _OtherwiseError from None
                if end - at > 1:
                    await self._try_rows(window, trial, at, end)
                else:
                    trial.failed[at] = str(error)
                    trial.count(error)
            except InferenceError:
                raise _OtherwiseError from None
            else:
                trial.took(at, results)

    def _take(self, found: dict[int, Checked] | list[Checked], search: ItemSearch) -> None:
        """Sort results out. Where they do not belong to single items, they stay together: the
        first that asks for a retry, or else the first that failed, speaks for the whole window."""
        results = found if isinstance(found, dict) else dict(enumerate(found))
        rows: list[ResultRow] = []
        failures: list[Failure] = []
        retries: list[Failure] = []
        for place, result in results.items():
            at, last = (place, place) if self._per_item else (0, len(search.window) - 1)
            if result.fate == "ok":
                rows.append(ResultRow(place, result.data))
            else:
                into = retries if result.fate == "retry" else failures
                into.append(Failure.at(at, last, "results", result.reason))
        if not self._per_item and (retries or failures):
            rows, retries, failures = [], retries[:1], [] if retries else failures[:1]
        # Odd results are nobody's verdict on the items.
        is_empty = isinstance(found, list) and not found
        if is_empty or any(r.fate == "ok" or r.is_verdict for r in results.values()):
            search.is_taken = True
        for failure in failures:
            search.refused(failure)
        search.outcome.rows += rows
        search.outcome.retries += retries


_OF_RESULTS = (HookError, InferenceRejectedError, InferenceServerError)
"""What ``build_results`` raises about items."""


def _stage_of(error: SinferError) -> Stage:
    return "results" if isinstance(error, HookError) else "inference"


class _OtherwiseError(Exception):
    """``build_results`` fails on part of an answer in another way than on the whole."""


@dataclass(slots=True)
class _Trial:
    """What ``build_results`` makes of the parts of an answer that it failed on.

    Attributes:
        cut: the answer.
        error: how it failed on the whole.
        results, failed: of single items, by their places in the answer.
        numbers: how many results there were for all parts together; None where one is not known.
        right: sizes of parts of several items for which the number was right.
    """

    cut: CutAnswer
    error: SinferError
    results: dict[int, Checked] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    numbers: int | None = 0
    right: set[int] = field(default_factory=set)

    def is_alike(self, error: SinferError) -> bool:
        first, second = (
            (_stage_of(found), likeness(_stage_of(found), one_line(str(found))))
            for found in (error, self.error)
        )
        return first == second

    def took(self, first: int, results: list[Checked]) -> None:
        self.results.update(enumerate(results, first))
        if len(results) > 1:
            self.right.add(len(results))
        if self.numbers is not None:
            self.numbers += len(results)

    def count(self, error: SinferError) -> None:
        number = error.found if isinstance(error, WrongNumberError) else None
        if self.numbers is not None:
            self.numbers = None if number is None else self.numbers + number

    def explains(self, number: int | None) -> bool:
        """Whether so many results of the whole are the fault of the items that failed alone: they
        add up, or the number was right for others that were several."""
        if not self.failed:
            return False
        return (self.numbers is not None and self.numbers == number) or bool(self.right - {number})
