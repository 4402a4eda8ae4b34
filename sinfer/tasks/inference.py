"""From a window to rows: requests, the model's answers, and the search for bad items.

A request that the model refuses is halved until the culprit stands alone (design guarantee 8): of
64 items with one bad, 63 get results after at most 13 calls.
"""

from __future__ import annotations

import inspect
from http.client import TOO_MANY_REQUESTS
from typing import Any

from sinfer.encoding import to_json
from sinfer.errors import (
    InferenceError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.inference.base import InferenceClient
from sinfer.inference.guard import Guard
from sinfer.products.pipeline import InferPipeline
from sinfer.results import Result, ResultRow
from sinfer.tasks.outcomes import Failure, Outcome
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.windows.window import Window


class StageError(Exception):
    """A product's hook failed; carries the stage and, if any, what the hook raised as its cause."""

    def __init__(self, stage: Stage, error: str) -> None:
        super().__init__(error)
        self.stage = stage


class Inferrer:
    """Asks the model about windows of one task.

    Args:
        pipeline: the product's code.
        client: sends its requests.
        guard: what all workers together grant the endpoint; None where there is no Redis.
    """

    def __init__(
        self,
        pipeline: InferPipeline[Any, Any],
        client: InferenceClient,
        guard: Guard | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._client = client
        self._guard = guard
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
        except StageError as error:
            stage, reason = error.stage, str(error)
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
    ) -> list[Result]:
        key = f"{call}/{first}+{len(window)}"
        try:
            request = self._pipeline.build_request(window)
            if inspect.isawaitable(request):
                request = await request
        except Exception as error:
            raise StageError("request", f"build_request: {_text(error)}") from error
        try:
            response = await self._call(request, key)
        except InferenceServerError:
            response = await self._call(request, key)
        outcome.model = _model_of(response) or outcome.model
        try:
            results = self._pipeline.build_results(window, response)
            if inspect.isawaitable(results):
                results = await results
            results = list(results)
        except InferenceError:
            raise
        except Exception as error:
            raise StageError("results", f"build_results: {_text(error)}") from error
        expected = {"item": len(window), "window": 1}.get(self._pipeline.results_per)
        if expected is not None and len(results) != expected:
            raise StageError(
                "results",
                f"build_results returned {len(results)} results for {len(window)} items;"
                f" results_per = {self._pipeline.results_per!r} asks for {expected}",
            )
        return results

    async def _call(self, request: Any, key: str) -> Any:
        """One call, within what the endpoint grants."""
        if self._guard is None:
            return await self._client.infer(request, idempotency_key=key)
        try:
            async with self._guard.slot():
                response = await self._client.infer(request, idempotency_key=key)
        except InferenceUnavailableError as error:
            if error.status == TOO_MANY_REQUESTS:
                await self._guard.succeeded()
            raise
        except InferenceError:  # an answer, if not the one that was asked for
            await self._guard.succeeded()
            raise
        await self._guard.succeeded()
        return response

    def _take(self, results: list[Result], items: int, first: int, outcome: Outcome) -> None:
        """Sort the results out. Where they do not belong to single items, they stay together: the
        first that asks for a retry, or else the first that failed, speaks for the whole window."""
        rows: list[ResultRow] = []
        failures: list[Failure] = []
        retries: list[Failure] = []
        for place, result in enumerate(results):
            ordinal = first + place
            last = ordinal if self._per_item else first + items - 1
            at = ordinal if self._per_item else first
            if result.outcome != "ok":
                reason = result.reason or f"build_results marked it {result.outcome}"
                into = retries if result.outcome == "retry" else failures
                into.append(Failure.at(at, last, "results", reason))
                continue
            try:
                rows.append(ResultRow(ordinal, to_json(result.data)))
            except (TypeError, ValueError) as error:
                text = f"result cannot be written as JSON: {_text(error)}"
                failures.append(Failure.at(at, last, "results", text))
        if not self._per_item and (retries or failures):
            rows, retries, failures = [], retries[:1], [] if retries else failures[:1]
        outcome.rows += rows
        outcome.failures += failures
        outcome.retries += retries


def _model_of(response: Any) -> str:
    """What an answer tells of the model: name and version, or one of them."""
    parts = []
    for names in (("model_name", "model"), ("model_version",)):
        told = (_told(response, name) for name in names)
        parts += [one_line(text) for text in told if isinstance(text, str) and text][:1]
    return ":".join(parts)


def _told(response: Any, name: str) -> Any:
    return response.get(name) if isinstance(response, dict) else getattr(response, name, None)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
