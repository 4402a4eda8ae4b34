"""From a window to rows: requests, the model's answers, and the search for bad items.

A request that the model refuses is halved until the culprit stands alone (design guarantee 8): of
64 items with one bad, 63 get results after at most 13 calls.
"""

from __future__ import annotations

import asyncio
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
from sinfer.tasks.outcomes import Failure, Outcome
from sinfer.tasks.result_check import Checked, check, result_list
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.windows.window import Window


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
        outcome = Outcome()
        call = call or window.id
        size = self._max_batch if self._max_batch and self._per_item else len(window)
        for first in range(0, len(window), size):
            await self._ask(window[first : first + size], first, outcome, call, last_try)
        return outcome

    async def _ask(
        self, window: Window[Any], first: int, outcome: Outcome, call: str, last_try: bool
    ) -> None:
        """Ask about part of a window; when it is refused, about its halves."""
        stage: Stage = "inference"
        try:
            results = await self._results(window, first, outcome, call)
        except (InferenceRejectedError, InferenceServerError) as error:
            reason = str(error)
        except InvalidResponseError as error:
            if not last_try:
                raise
            reason = str(error)
        except HookError as error:
            stage = "request" if error.stage == "request" else "results"
            reason = str(error)
        else:
            self._take(results, len(window), first, outcome)
            return
        if len(window) == 1 or not self._per_item:
            last = first + len(window) - 1
            outcome.failures.append(Failure.at(first, last, stage, reason))
            return
        middle = len(window) // 2
        await self._ask(window[:middle], first, outcome, call, last_try)
        await self._ask(window[middle:], first + middle, outcome, call, last_try)

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

    def _take(self, results: list[Checked], items: int, first: int, outcome: Outcome) -> None:
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
        outcome.rows += rows
        outcome.failures += failures
        outcome.retries += retries


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
