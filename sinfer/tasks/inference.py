"""From a window to rows: requests, the model's answers, and the search for bad items.

A request that the model refuses is halved until the culprit stands alone (design guarantee 8): of
64 items with one bad, 63 get results after at most 13 calls.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http.client import TOO_MANY_REQUESTS
from typing import Any

from sinfer.errors import (
    HookError,
    InferenceError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.hooks import Hook, describe
from sinfer.inference.base import InferenceClient
from sinfer.inference.guard import Guard
from sinfer.products.pipeline import InferPipeline
from sinfer.results import ResultRow
from sinfer.tasks.likeness import likeness
from sinfer.tasks.outcomes import Failure, Outcome
from sinfer.tasks.result_check import Checked, check, result_list
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.windows.window import Window

_SMALL = 8
"""Fewer items are all asked about, whatever becomes of the first ones."""

_SAMPLED_AFTER = 2
"""Items refused alone, with none taken, after which others are sampled. One bad item never is the
reason: in each pair of halves there is one that is taken."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """All items of a window were refused alike.

    Attributes:
        stage: where.
        reason: as it was told of the first item.
        alike: what the reasons have in common.
        is_sample: whether only some items were asked about.
    """

    stage: Stage
    reason: str
    alike: str
    is_sample: bool


class _Search:
    """What is known of a window while its items are asked about."""

    def __init__(self, window: Window[Any], call: str, last_try: bool, sample: bool) -> None:
        self.window = window
        self.call = call
        self.last_try = last_try
        self.sample = sample and len(window) >= _SMALL
        self.outcome = Outcome()
        self.is_taken = False

    def refused(self, failure: Failure) -> None:
        self.outcome.failures.append(failure)

    def is_like_the_others(self, stage: Stage, reason: str) -> bool:
        return {(stage, likeness(stage, one_line(reason)))} == self._kinds

    @property
    def wants_a_sample(self) -> bool:
        alone = len(self.outcome.failures)
        return self.sample and not self.is_taken and alone >= _SAMPLED_AFTER

    @property
    def _kinds(self) -> set[tuple[Stage, str]]:
        return {(f.stage, likeness(f.stage, f.error)) for f in self.outcome.failures}

    def refusal(self, *, is_sample: bool) -> Refusal | None:
        """Why all were refused; None when some were not, or for several reasons."""
        kinds = self._kinds
        if self.is_taken or len(kinds) != 1:
            return None
        [(stage, alike)] = kinds
        return Refusal(stage, self.outcome.failures[0].error, alike, is_sample)


class Inferrer:
    """Asks the model about windows of one task.

    Args:
        pipeline: the product's code.
        client: sends its requests.
        guard: what all workers together grant the endpoint; None where there is no Redis.
        name: ``product/task``, for people who want to know what runs.
        most_s: a client that takes longer over a call, in seconds, counts as unavailable; None
            where a debugger may stop in it.
    """

    def __init__(
        self,
        pipeline: InferPipeline[Any, Any],
        client: InferenceClient,
        guard: Guard | None = None,
        *,
        name: str = "",
        most_s: float | None = None,
    ) -> None:
        self._guard = guard
        self._most_s = most_s
        self._build_request = Hook("request", "build_request", pipeline.build_request, task=name)
        self._build_results = Hook(
            "results", "build_results", pipeline.build_results, task=name, passing=(InferenceError,)
        )
        self._infer = Hook(
            "inference", "infer", client.infer, task=name, passing=(InferenceError, OSError)
        )
        self._results_per = pipeline.results_per
        self._max_batch = pipeline.task.inference.max_batch
        self._per_item = pipeline.results_per == "item"

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
            sample: of a large window in which nothing is taken, ask about some items alone and
                leave it at that when all of them are refused alike.

        Returns:
            What became of the items, and why all of them were refused; None where they were not.
            After a sample the outcome lacks the items that were not asked about.
        """
        search = _Search(window, call or window.id, last_try, sample)
        size = self._max_batch if self._max_batch and self._per_item else len(window)
        try:
            for first in range(0, len(window), size):
                await self._ask(window[first : first + size], first, search)
        except _SampledError:
            return search.outcome, search.refusal(is_sample=True)
        return search.outcome, search.refusal(is_sample=False)

    async def _ask(self, window: Window[Any], first: int, search: _Search) -> None:
        """Ask about part of a window; when it is refused, about its halves."""
        found = await self._answer(window, first, search)
        if isinstance(found, list):
            self._take(found, len(window), first, search)
            return
        stage, reason = found
        if len(window) == 1 or not self._per_item:
            last = first + len(window) - 1
            search.refused(Failure.at(first, last, stage, reason))
            if search.wants_a_sample:
                await self._sample(search)
            return
        middle = len(window) // 2
        await self._ask(window[:middle], first, search)
        await self._ask(window[middle:], first + middle, search)

    async def _answer(
        self, window: Window[Any], first: int, search: _Search
    ) -> list[Checked] | tuple[Stage, str]:
        """The results of part of a window; or the stage at which it was refused, and why."""
        try:
            return await self._results(window, first, search.outcome, search.call)
        except (InferenceRejectedError, InferenceServerError) as error:
            return "inference", str(error)
        except InvalidResponseError as error:
            if not search.last_try:
                raise
            return "inference", str(error)
        except HookError as error:
            return "request" if error.stage == "request" else "results", str(error)

    async def _sample(self, search: _Search) -> None:
        """Ask about an item in the middle and the last one: are they refused as well?

        Raises:
            _SampledError: all are refused alike.
        """
        search.sample = False
        for place in (len(search.window) // 2, len(search.window) - 1):
            found = await self._answer(search.window[place : place + 1], place, search)
            if isinstance(found, list) or not search.is_like_the_others(*found):
                return
        raise _SampledError

    async def _results(
        self, window: Window[Any], first: int, outcome: Outcome, call: str
    ) -> list[Checked]:
        key = f"{call}/{first}+{len(window)}"
        request = await self._build_request.wait(window)
        try:
            response = await self._call(request, key)
        except InferenceServerError:
            response = await self._call(request, key)
        outcome.model = _model_of(response) or outcome.model
        returned = await self._build_results.wait(window, response)
        expected = {"item": len(window), "window": 1}.get(self._results_per)
        results = result_list(returned, expected, self._results_per, len(window))
        return [check(result) for result in results]

    async def _call(self, request: Any, key: str) -> Any:
        """One call, within what the endpoint grants."""
        if self._guard is None:
            return await self._asked(request, key)
        try:
            async with self._guard.slot():
                response = await self._asked(request, key)
        except InferenceUnavailableError as error:
            if error.status == TOO_MANY_REQUESTS:
                await self._guard.succeeded()
            raise
        except InferenceError:  # an answer, if not the one that was asked for
            await self._guard.succeeded()
            raise
        await self._guard.succeeded()
        return response

    async def _asked(self, request: Any, key: str) -> Any:
        """One call. A product's own client may raise what it likes: without a connection, or
        without an answer in time, its model is unavailable; anything else is its failure."""
        deadline = asyncio.timeout(self._most_s)
        try:
            async with deadline:
                return await self._infer.wait(request, idempotency_key=key)
        except OSError as error:
            if deadline.expired():
                text = f"its client gave no answer within {self._most_s:g}s"
                raise InferenceUnavailableError(text) from None
            raise InferenceUnavailableError(describe(error)) from error
        except HookError as error:
            raise InferenceServerError(str(error)) from error

    def _take(self, results: list[Checked], items: int, first: int, search: _Search) -> None:
        """Sort the results out. Where they do not belong to single items, they stay together: the
        first that asks for a retry, or else the first that failed, speaks for the whole window."""
        rows: list[ResultRow] = []
        failures: list[Failure] = []
        retries: list[Failure] = []
        for place, result in enumerate(results):
            ordinal = first + place
            last = ordinal if self._per_item else first + items - 1
            at = ordinal if self._per_item else first
            if result.fate == "ok":
                rows.append(ResultRow(ordinal, result.data))
            else:
                into = retries if result.fate == "retry" else failures
                into.append(Failure.at(at, last, "results", result.reason))
        if not self._per_item and (retries or failures):
            rows, retries, failures = [], retries[:1], [] if retries else failures[:1]
        # Odd results are nobody's verdict on the items.
        if not results or any(result.fate == "ok" or result.is_verdict for result in results):
            search.is_taken = True
        for failure in failures:
            search.refused(failure)
        search.outcome.rows += rows
        search.outcome.retries += retries


class _SampledError(Exception):
    """Enough items were refused alike, and none was taken."""


def _model_of(response: Any) -> str:
    """What an answer tells of the model: name and version, or one of them."""
    try:
        found: str = Hook("inference", "infer", _told_model)(response)
    except HookError:  # an answer of a product's own client, that does not like to be asked
        return ""
    return found


def _told_model(response: Any) -> str:
    parts = []
    for names in (("model_name", "model"), ("model_version",)):
        told = (_told(response, name) for name in names)
        parts += [one_line(text) for text in told if isinstance(text, str) and text][:1]
    return ":".join(parts)


def _told(response: Any, name: str) -> Any:
    return response.get(name) if isinstance(response, dict) else getattr(response, name, None)
