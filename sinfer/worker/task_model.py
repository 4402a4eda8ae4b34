"""One question to a task's model: the items of a window, the request, the call and its results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http.client import TOO_MANY_REQUESTS
from typing import Any, Literal, TypeAlias

from sinfer.errors import (
    HookError,
    InferenceError,
    InferenceServerError,
    InferenceUnavailableError,
)
from sinfer.hooks.call import Hook, describe
from sinfer.inference.base import InferenceClient
from sinfer.logging.masking import one_line
from sinfer.products.pipeline import InferPipeline
from sinfer.store.work.claim import Claim
from sinfer.types.message import Message
from sinfer.windows.deduplication import kept_places
from sinfer.windows.window import Window
from sinfer.worker.endpoint_guard import Guard
from sinfer.worker.outcome import Failure, Outcome
from sinfer.worker.result_check import Checked, checked_results

AskedStage: TypeAlias = Literal["request", "inference", "results"]
"""How far a question came: to its request, to the model's answer, to the results made of it."""


@dataclass(slots=True)
class Answer:
    """What came of one question.

    Attributes:
        results: in order; None where there are none.
        error: why there are none.
        stage: where it was raised.
        response: what the client returned.
        model: what that tells of the model: name and version, or one of them.
        calls: how often the model was called.
        said: what was wrong with a first call that was made again.
    """

    results: list[Checked] | None = None
    error: HookError | InferenceError | None = None
    stage: AskedStage = "request"
    response: Any = None
    model: str = ""
    calls: int = 0
    said: str = ""


class TaskModel:
    """The model of one task, with the product's code around it.

    Args:
        pipeline: the product's code.
        client: sends its requests.
        guard: what all workers together grant the endpoint; None where there is no Redis.
        name: ``product/task``, for people who want to know what runs.
        most_s: a client that takes longer over a call, in seconds, counts as unavailable; None
            where a debugger may stop in it.

    Attributes:
        name: ``product/task``.
        is_per_item: whether each item has a result of its own.
        most: items that are asked about at once; None for any number.
        preprocess_hook, request_hook, results_hook, infer_hook: what is called.
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
        self.name = name
        self._pipeline = pipeline
        self._task_id = pipeline.task.id
        self._dedupe = pipeline.task.window.dedupe
        self._results_per = pipeline.results_per
        self.is_per_item = pipeline.results_per == "item"
        self.most = pipeline.task.inference.max_batch if self.is_per_item else None
        self.preprocess_hook = Hook("preprocess", "preprocess", pipeline.preprocess, task=name)
        self.request_hook = Hook("request", "build_request", pipeline.build_request, task=name)
        self.results_hook = Hook(
            "results", "build_results", pipeline.build_results, task=name, passing=(InferenceError,)
        )
        self.infer_hook = Hook(
            "inference", "infer", client.infer, task=name, passing=(InferenceError, OSError)
        )

    # --- items ---

    def window_of(
        self,
        claim: Claim,
        messages: Sequence[Message],
        places: Sequence[int],
        outcome: Outcome,
    ) -> tuple[Window[Any], list[int]]:
        """A window of the messages at some places, and the places that its items have.

        Items that ``preprocess`` raises for are added to the outcome's failures, those that it
        filters out to the filtered.
        """
        items, kept, failed = [], [], {}
        found = self.preprocess_hook.each([messages[place] for place in places])
        for place, item in zip(places, found, strict=True):
            if isinstance(item, HookError):
                failed[place] = item.text
            elif item is not None:
                items.append(item)
                kept.append(place)
            elif place not in outcome.filtered:
                outcome.filtered.append(place)
        if self._dedupe is not None:
            unique = self._unique(items, kept, failed)
            items, kept = [items[n] for n in unique], [kept[n] for n in unique]
        if failed:
            outcome.failures += [
                Failure.at(place, place, "preprocess", failed[place]) for place in sorted(failed)
            ]
        closed, record = claim.window, claim.window.record
        window = Window(
            items,
            [messages[place] for place in kept],
            id=closed.public_id,
            task=self._task_id,
            key=record.key,
            start=None if record.start_ms is None else record.start_ms / 1000,
            end=None if record.end_ms is None else record.end_ms / 1000,
            close_reason=closed.reason,
            revision=record.revision,
        )
        return window, kept

    def _unique(self, items: list[Any], places: list[int], failed: dict[int, str]) -> Sequence[int]:
        """Which items repeat no other; why ``item_id`` raises for some is noted by their places."""
        assert self._dedupe is not None
        ids, known = [], []
        for n, found in enumerate(self._identities().each(items)):
            if isinstance(found, HookError):
                failed[places[n]] = found.text
            else:
                ids.append(found)
                known.append(n)
        return [known[n] for n in kept_places(ids, self._dedupe)]

    def _identities(self) -> Hook:
        """Numbers items by their ``item_id``: one number for those that have the same.

        An id is hashed and compared in the call for its own item, so that one which cannot be harms
        that item alone.
        """
        return Hook("preprocess", "item_id", _numbering(self._pipeline.item_id), task=self.name)

    def leave_out_repeats(self, messages: Sequence[Message], outcome: Outcome) -> None:
        """With ``window.dedupe``: take those results out again whose items repeat others.

        That is needed where a window was asked about part by part. Of what was given up nothing is
        called again.
        """
        if self._dedupe is None:
            return
        item_id = self._identities()
        places = [row.ordinal for row in outcome.rows]
        places += [p for f in outcome.retries for p in range(f.first, f.last + 1)]
        known, ids = [], []
        for place in sorted(places):
            try:
                ids.append(item_id(self.preprocess_hook(messages[place])))
            except HookError:  # it is pure, they say: it came through before
                continue
            known.append(place)
        repeats = set(known) - {known[n] for n in kept_places(ids, self._dedupe)}
        outcome.rows = [row for row in outcome.rows if row.ordinal not in repeats]
        outcome.retries = [f for f in outcome.retries if f.first not in repeats]

    # --- the question ---

    async def ask(self, window: Window[Any], items: int, key: str) -> Answer:
        """Ask the model about a window.

        Args:
            window: what is asked about.
            items: how many that are.
            key: the idempotency key of the call.
        """
        answer = Answer()
        try:
            request = await self.request_hook.wait(window)
            answer.stage = "inference"
            answer.calls = 1
            try:
                answer.response = await self._call(request, key)
            except InferenceServerError as error:
                answer.said = str(error)
                answer.calls = 2
                answer.response = await self._call(request, key)
            answer.stage = "results"
            answer.model = _told_model(answer.response)
            answer.results = await self.results_of(window, items, answer.response)
        except (HookError, InferenceError) as error:
            answer.error = error
        return answer

    async def results_of(self, window: Window[Any], items: int, response: Any) -> list[Checked]:
        """What ``build_results`` makes of an answer about so many items.

        Raises:
            HookError, InferenceError: it fails on the answer.
        """
        returned = await self.results_hook.wait(window, response)
        return checked_results(returned, self._results_per, items)

    async def _call(self, request: Any, key: str) -> Any:
        """One call, within what the endpoint grants."""
        guard = self._guard
        if guard is None:
            return await self._asked(request, key)
        try:
            if guard.has_slots:
                async with guard.slot():
                    response = await self._asked(request, key)
            else:
                response = await self._asked(request, key)
        except InferenceUnavailableError as error:
            if error.status == TOO_MANY_REQUESTS:
                await guard.succeeded()
            raise
        except InferenceError:  # an answer, if not the one that was asked for
            await guard.succeeded()
            raise
        if guard.has_failed:
            await guard.succeeded()
        return response

    async def _asked(self, request: Any, key: str) -> Any:
        """One call. A product's own client may raise what it likes: without a connection, or
        without an answer in time, its model is unavailable; anything else is its failure."""
        deadline = asyncio.timeout(self._most_s)
        try:
            async with deadline:
                return await self.infer_hook.wait(request, idempotency_key=key)
        except OSError as error:
            if deadline.expired():
                text = f"its client gave no answer within {self._most_s:g}s"
                raise InferenceUnavailableError(text) from None
            raise InferenceUnavailableError(describe(error)) from error
        except HookError as error:
            raise InferenceServerError(str(error)) from error


def _numbering(item_id: Callable[[Any], Hashable]) -> Callable[[Any], int]:
    known: dict[Hashable, int] = {}

    def number(item: Any) -> int:
        return known.setdefault(item_id(item), len(known))

    return number


def _told_model(response: Any) -> str:
    """What an answer tells of the model: name and version, or one of them."""
    try:
        ours = type(response).__module__.startswith(_OWN_ANSWERS)
        told: tuple[str, ...] = _told(response) if ours else _TOLD(response)
    except HookError:  # an answer of a product's own client, that does not like to be asked
        return ""
    return _model_text(told)


def _told(response: Any) -> tuple[str, ...]:
    parts: list[str] = []
    for names in (("model_name", "model"), ("model_version",)):
        found = (
            response.get(name) if isinstance(response, dict) else getattr(response, name, None)
            for name in names
        )
        parts += [str(text) for text in found if isinstance(text, str) and text][:1]
    return tuple(parts)


@lru_cache(maxsize=64)
def _model_text(told: tuple[str, ...]) -> str:
    return ":".join(map(one_line, told))


_OWN_ANSWERS = "sinfer.inference."
_TOLD = Hook("inference", "infer", _told)
