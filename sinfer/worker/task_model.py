"""One question to a task's model: the items of a window, the request, the call and its results."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http.client import TOO_MANY_REQUESTS
from itertools import islice
from typing import Any, Literal, TypeAlias

import msgspec

from sinfer.encoding import to_json
from sinfer.errors import (
    HookError,
    InferenceError,
    InferenceServerError,
    InferenceUnavailableError,
)
from sinfer.hooks.call import Hook, describe, reason_of
from sinfer.inference.base import InferenceClient
from sinfer.logging.masking import one_line
from sinfer.products.pipeline import InferPipeline
from sinfer.store.work.claim import Claim
from sinfer.types.message import Message
from sinfer.types.result import Result
from sinfer.windows.window import Window
from sinfer.worker.call_latency import CallLatency
from sinfer.worker.endpoint_guard import Guard
from sinfer.worker.outcome import Failure, Outcome
from sinfer.worker.repeats import unrepeated

_HOOK = "build_results"

MOST_RESULTS = 1_000_000
"""Of one window: a generator without end must not fill the memory."""

Fate: TypeAlias = Literal["ok", "failed", "retry"]


class WrongNumberError(HookError):
    """``build_results`` returned a list of another length than it should.

    Attributes:
        found: its length; None where it is longer than was read.
    """

    def __init__(self, text: str, found: int | None) -> None:
        super().__init__("results", _HOOK, text)
        self.found = found


class Checked(msgspec.Struct, frozen=True):
    """One result.

    Attributes:
        fate: what becomes of it.
        data: as JSON, where it is ok.
        reason: why it is not.
        is_verdict: whether the product decided so; else something is wrong with the result.
    """

    fate: Fate
    data: bytes = b""
    reason: str = ""
    is_verdict: bool = False


AskedStage: TypeAlias = Literal["request", "inference", "results"]
"""How far a question came: to its request, to the model's answer, to the results made of it."""


@dataclass(frozen=True, slots=True)
class SharedFailure:
    """A call that several windows shared had no answer. That is a failed attempt of none of them.

    Attributes:
        breaker_ms: how long the endpoint's breaker is open then.
        jitter: their share of the wait before the next attempt, from 0 to 1: they come together.
    """

    breaker_ms: int
    jitter: float


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
        shared_failure: what follows for each window where several shared a call that had no
            answer.
    """

    results: list[Checked] | None = None
    error: HookError | InferenceError | None = None
    stage: AskedStage = "request"
    response: Any = None
    model: str = ""
    calls: int = 0
    said: str = ""
    shared_failure: SharedFailure | None = None


class TaskModel:
    """The model of one task, with the product's code around it.

    Args:
        pipeline: the product's code.
        client: sends its requests.
        guard: what all workers together grant the endpoint; None where there is no Redis.
        name: ``product/task``, for people who want to know what runs.
        most_s: a client that takes longer over a call, in seconds, counts as unavailable; None
            where a debugger may stop in it.
        latency: notes how long calls take; None where nobody wants to know.

    Attributes:
        name: ``product/task``.
        pipeline: the product's code.
        dedupe: which of items that repeat each other is kept; None for all.
        is_per_item: whether each item has a result of its own.
        most: items that are asked about at once; None for any number.
        concurrency: calls that are made at once.
        unkept: as of ``PartCalls``.
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
        latency: CallLatency | None = None,
    ) -> None:
        self._guard = guard
        self._latency = latency
        self._most_s = most_s
        self.name = name
        self.pipeline = pipeline
        self._task_id = pipeline.task.id
        self.dedupe = pipeline.task.window.dedupe
        deadline = pipeline.task.window.deadline
        self._deadline_s: float | None = None if deadline is None else deadline.total_seconds()
        self._results_per = pipeline.results_per
        self.is_per_item = pipeline.results_per == "item"
        self.most = pipeline.task.inference.max_batch if self.is_per_item else None
        self.concurrency = pipeline.task.inference.most_at_once
        self._places = asyncio.Semaphore(self.concurrency)
        self.unkept = asyncio.Semaphore(self.concurrency)
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
        if self.dedupe is not None:
            unique = unrepeated(self, items, kept, failed)
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
            due_s=self._due_s(claim),
        )
        return window, kept

    def _due_s(self, claim: Claim) -> float | None:
        """When the results of a window are due, by the monotonic clock; None where they never
        are."""
        first_ms = claim.window.record.first_ms
        if self._deadline_s is None or not first_ms:
            return None
        return time.monotonic() + self._deadline_s + (first_ms - claim.claimed_ms) / 1000

    # --- the question ---

    @property
    def calls_at_once(self) -> int:
        """How many calls one window may make side by side: one, while the endpoint is on trial."""
        return 1 if self._guard is not None and self._guard.on_trial else self.concurrency

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
                answer.response = await self._call(request, key, window)
            except InferenceServerError as error:
                answer.said = str(error)
                answer.calls = 2
                answer.response = await self._call(request, key, window)
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
        return _checked_results(returned, self._results_per, items)

    async def _call(self, request: Any, key: str, window: Window[Any]) -> Any:
        """One call about a window, within what the endpoint grants."""
        async with self._places:
            return await self._granted(request, key, window)

    async def _granted(self, request: Any, key: str, window: Window[Any]) -> Any:
        guard = self._guard
        if guard is None:
            return await self._asked(request, key)
        try:
            if guard.has_slots:
                async with guard.slot(len(window), window.due_s):
                    response = await self._timed(request, key, window)
            else:
                response = await self._timed(request, key, window)
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

    async def _timed(self, request: Any, key: str, window: Window[Any]) -> Any:
        """One call, of which is noted how long it took."""
        if self._latency is None:
            return await self._asked(request, key)
        began_s = time.monotonic()
        response = await self._asked(request, key)
        await self._latency.note(len(window), time.monotonic() - began_s)
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


def _checked_results(returned: Any, results_per: str, items: int) -> list[Checked]:
    """What becomes of each result; whatever is wrong with one harms no other.

    Args:
        returned: what ``build_results`` returned: any iterable, a generator too.
        results_per: what the pipeline says of how many there should be.
        items: in the window.

    Raises:
        WrongNumberError: it has another length.
        HookError: it is no list of results, or raises while it is read.
    """
    expected = {"item": items, "window": 1}.get(results_per)
    if isinstance(returned, Result):
        raise _wrong("returned a single Result, not a list of them")
    if isinstance(returned, str | bytes | bytearray | Mapping) or not isinstance(
        returned, Iterable
    ):
        raise _wrong(f"returned {_kind(returned)}, not a list of Result")
    most = MOST_RESULTS if expected is None else expected
    if type(returned) is list:
        most = max(most, len(returned))  # it is in the memory, however long it is
    number, found = _READ(returned, most, expected)
    if found is None:
        told = f"more than {most}" if number > most else str(number)
        asked = f"at most {most}" if expected is None else str(expected)
        raise WrongNumberError(
            f"returned {told} results for {items} items;"
            f" results_per = {results_per!r} asks for {asked}",
            None if number > most else number,
        )
    results: list[Checked] = found
    return results


def _read(
    returned: Iterable[Any], most: int, expected: int | None
) -> tuple[int, list[Checked] | None]:
    """How many results there are, one more than the most at most, and what becomes of each of them
    if that is right."""
    found = list(islice(iter(returned), most + 1))
    if len(found) > most or expected not in (None, len(found)):
        return len(found), None
    return len(found), [_checked(result) for result in found]


def _checked(result: Any) -> Checked:
    try:
        return _fate_of(result)
    except BaseException as error:
        reason = f"{_HOOK}: its result cannot be read: {reason_of(error)}"
        return Checked("failed", reason=reason)


def _fate_of(result: Any) -> Checked:
    if not isinstance(result, Result):
        return Checked("failed", reason=f"{_HOOK} returned {_kind(result)} instead of a Result")
    outcome = result.outcome
    if outcome == "ok":
        try:
            return Checked("ok", to_json(result.data))
        except BaseException as error:
            return Checked("failed", reason=f"result cannot be written as JSON: {describe(error)}")
    reason = one_line(str(result.reason)) or f"{_HOOK} marked it {outcome}"
    if outcome == "failed":
        return Checked("failed", reason=reason, is_verdict=True)
    if outcome == "retry":
        return Checked("retry", reason=reason, is_verdict=True)
    return Checked(
        "failed",
        reason=f"{_HOOK}: outcome {one_line(repr(outcome))} is none of ok, failed and retry",
    )


def _wrong(text: str) -> HookError:
    return HookError("results", _HOOK, text)


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


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
_READ = Hook("results", _HOOK, _read)
"""What is looked at is a product's own: its list, and its results, may raise."""
