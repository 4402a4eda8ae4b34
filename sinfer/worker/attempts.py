"""One try of a window: what it works on, what it learns on the way, how it ends early."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sinfer.config.units import to_ms
from sinfer.inference.base import InferenceConfig
from sinfer.store.work.claim import Claim, Claims
from sinfer.types.message import Message
from sinfer.windows.window import Window
from sinfer.worker.outcome import Outcome
from sinfer.worker.search_progress import SearchProgress
from sinfer.worker.task_model import Answer, SharedFailure


@dataclass(slots=True)
class Timings:
    """How long the stages of one attempt took, in milliseconds."""

    inference: int = 0
    sinks: int = 0


@dataclass(slots=True)
class Attempt:
    """One try.

    Attributes:
        claim: the window.
        messages: its messages.
        is_last: whether what cannot be had in this try is given up.
        timings: how long the stages took.
        answered: what was asked and is not away: the model, sinks by their labels.
        progress: how far asking about the items has come.
        pending: places of the items that were still to be asked about when that ended.
        number: how often the window was tried, before it was processed again included.
        may_have_been_tried: whether an earlier attempt may have stored or written anything.
        shared_failure: as of the ``Answer`` to the first question.
    """

    claim: Claim
    messages: Sequence[Message]
    is_last: bool
    timings: Timings = field(default_factory=Timings)
    answered: set[str] = field(default_factory=set)
    progress: SearchProgress = field(default_factory=SearchProgress)
    pending: list[int] = field(default_factory=list)
    number: int = 1
    may_have_been_tried: bool = False
    shared_failure: SharedFailure | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """What is known of the items that are asked about when a search begins.

    Attributes:
        window: the items.
        kept: their places among the messages of the window.
        answer: what the model said already, of as many of them as it is asked about at once.
    """

    window: Window[Any]
    kept: list[int]
    answer: Answer | None = None


class LostWindowError(Exception):
    """Another worker has the window, and what this one finds of it counts no more."""


class TryLaterError(Exception):
    """The window has to be tried again.

    Attributes:
        wait_ms: not before so many milliseconds.
        counts: whether the attempt counts.
        away: what the window waits for, and what is wrong with that.
        outcome: what there is already; None when there is nothing.
    """

    def __init__(
        self,
        error: str,
        wait_ms: int,
        *,
        counts: bool = True,
        away: Mapping[str, str] | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(error)
        self.wait_ms = wait_ms
        self.counts = counts
        self.away = away
        self.outcome = outcome


def backoff_ms(config: InferenceConfig, tries: int, jitter: float | None = None) -> int:
    """Full jitter: a random wait below a bound that doubles with each try (AWS, 2015).

    Args:
        config: has the first bound and the highest.
        tries: from 1.
        jitter: where in the range it is, from 0 to 1; by default at random.
    """
    bound: int = min(to_ms(config.retry_max), to_ms(config.retry_base) << min(30, tries - 1))
    least, chance = bound // 10, random.random() if jitter is None else jitter
    return round(least + (max(1, bound) - least) * chance)


async def store(claims: Claims, attempt: Attempt, **kept: Any) -> None:
    """Keep something for later attempts; see ``Claims.store_output``.

    Raises:
        LostWindowError: the window is not held any more.
    """
    if not await claims.store_output(attempt.claim, **kept):
        raise LostWindowError
