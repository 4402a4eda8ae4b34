"""What is known of a window's items while the model is asked about them, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeAlias

from sinfer.windows.dead_letters import Stage, one_line
from sinfer.windows.window import Window
from sinfer.worker.likeness import likeness
from sinfer.worker.outcome import Failure, Outcome
from sinfer.worker.task_model import Answer

Places: TypeAlias = list[int]
"""Places of items in the window."""

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


@dataclass(frozen=True, slots=True)
class Halved:
    """Part of a window was refused, or all of it, and none of the items in it was.

    Attributes:
        stage: where it was refused.
        reason: why.
        items: of the largest such part.
        taken: of the largest part that was taken.
        calls: how many calls the window cost.
    """

    stage: Stage
    reason: str
    items: int
    taken: int
    calls: int


@dataclass(frozen=True, slots=True)
class Earlier:
    """What earlier attempts left of a search.

    Attributes:
        todo: the parts that are still to be asked about; None to begin as ``max_batch`` says.
        before: what was found of the window's other items.
        reason: what was said against an item first.
    """

    todo: list[Places] | None = None
    before: Outcome | None = None
    reason: str = ""


@dataclass(slots=True)
class ItemSearch:
    """How far asking about a window has come.

    Attributes:
        window: the items.
        call: begins the idempotency keys of the calls.
        names: of the items, as the keys have them: their places among the window's messages.
        last_try: look for a culprit even when the answer is one that nobody can read.
        sample: of a large window in which nothing is taken, ask about some items alone, and leave
            it at that when all of them are refused alike.
        todo: parts that are still to be asked about, in order.
        before: what earlier attempts found of the window's other items.
        outcome: what became of the items.
        reason: the first that the model, or code of the product, had against any of them.
        calls: how many calls there were.
        most_taken: items of the largest part that was taken.
        is_taken: whether anything was taken.
        unanswered: items that there was no answer about; None while that counts as an outage of
            the model.
        is_sampled: whether it ended with a sample.
        is_void: whether nothing that was found counts, since the model gave no answer at all.
        first: what the model said already of the first part; None where it was not asked.
        has_new_parts: whether parts were made that ``todo`` did not have at first.
    """

    window: Window[Any]
    call: str
    names: Sequence[int]
    last_try: bool
    sample: bool
    todo: list[Places]
    before: Outcome = field(default_factory=Outcome)
    outcome: Outcome = field(default_factory=Outcome)
    reason: str = ""
    calls: int = 0
    most_taken: int = 0
    is_taken: bool = False
    unanswered: set[int] | None = None
    is_sampled: bool = False
    is_void: bool = False
    first: Answer | None = None
    has_new_parts: bool = False
    _told: tuple[int, int, int] = (0, 0, 0)
    _refused: list[tuple[Places, Stage, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sample = self.sample and len(self.window) >= _SMALL
        self.is_taken = bool(self.before.rows or self.before.retries)

    def key(self, places: Places) -> str:
        """The idempotency key of a call: the same for the same items, and for no others."""
        first = self.names[places[0]]
        is_run = places[-1] - places[0] == len(places) - 1
        if is_run:
            return f"{self.call}/{first}+{len(places)}"
        named = sha256(repr([self.names[n] for n in places]).encode()).hexdigest()
        return f"{self.call}/{first}+{len(places)}-{named[:16]}"

    def note(self, reason: str) -> None:
        """Note what was said against items; the first word counts."""
        self.reason = self.reason or one_line(reason)

    def refused(self, failure: Failure) -> None:
        """Note items that are given up."""
        self.note(failure.error)
        self.outcome.failures.append(failure)

    def refused_whole(self, part: Places, stage: Stage, reason: str) -> None:
        """Note that a part was refused of which nothing is given up yet."""
        self.note(reason)
        self._refused.append((part, stage, one_line(reason)))

    def taken(self, items: int) -> None:
        """Note that a part was taken."""
        self.most_taken = max(self.most_taken, items)

    def is_like_the_others(self, stage: Stage, reason: str) -> bool:
        """Whether nothing else was ever said against an item."""
        kind = (stage, likeness(stage, one_line(reason)))
        return self._kinds | {kind} == {kind}

    @property
    def wants_a_sample(self) -> bool:
        """Whether enough items were refused alone, and none was taken."""
        alone = len(self.before.failures) + len(self.outcome.failures)
        return self.sample and not self.is_taken and alone >= _SAMPLED_AFTER

    @property
    def is_refused(self) -> bool:
        """Whether anything was refused."""
        return bool(self._refused or self.outcome.failures or self.before.failures)

    def remove(self, part: Places) -> int:
        """A part is asked about; returns where it was among those that are to be."""
        at = next(n for n, other in enumerate(self.todo) if other is part)
        del self.todo[at]
        return at

    def insert(self, at: int, parts: list[Places]) -> None:
        """Ask about parts of a part that was there."""
        self.todo[at:at] = parts
        self.has_new_parts = True

    def put_first(self, place: int) -> Places:
        """An item is asked about next, and alone; returns the part that it is now."""
        others = [left for part in self.todo if (left := [n for n in part if n != place])]
        self.todo = [[place], *others]
        return self.todo[0]

    def with_first_reason(self, reason: str) -> str:
        """A reason, behind the first of all where that was given for no item yet."""
        failures = (*self.before.failures, *self.outcome.failures)
        if not self.reason or self.reason == one_line(reason):
            return reason
        if any(self.reason in failure.error for failure in failures):
            return reason
        return f"{self.reason}; then: {reason}"

    def news(self) -> Outcome:
        """What was found since this was asked last."""
        found, (rows, failures, retries) = self.outcome, self._told
        self._told = (len(found.rows), len(found.failures), len(found.retries))
        return Outcome(
            found.rows[rows:], found.failures[failures:], found.retries[retries:], found.model
        )

    def sort(self) -> None:
        """Put what was found in the order of the items: answers come as they like."""
        self.outcome.rows.sort(key=lambda row: row.ordinal)
        self.outcome.failures.sort(key=lambda failure: failure.first)
        self.outcome.retries.sort(key=lambda failure: failure.first)

    def begin_again(self) -> None:
        """Nothing that was found counts."""
        self.outcome = Outcome()
        self.todo = [list(range(len(self.window)))]
        self.is_void = True

    @property
    def _kinds(self) -> set[tuple[Stage, str]]:
        failures = (*self.before.failures, *self.outcome.failures)
        return {(f.stage, likeness(f.stage, f.error)) for f in failures if f.stage != "preprocess"}

    @property
    def refusal(self) -> Refusal | None:
        """Why all were refused; None when some were not, or for several reasons."""
        kinds = self._kinds
        if self.is_taken or len(kinds) != 1:
            return None
        [(stage, alike)] = kinds
        failures = (*self.before.failures, *self.outcome.failures)
        reason = next(f.error for f in failures if f.stage != "preprocess")
        return Refusal(stage, reason, alike, self.is_sampled)

    @property
    def halved(self) -> Halved | None:
        """What it cost that a part was asked about in parts, where that was the whole cure."""
        if self.before.rows or self.before.failures or not self.most_taken:
            return None
        failed = {n for f in self.outcome.failures for n in range(f.first, f.last + 1)}
        cured = [found for found in self._refused if failed.isdisjoint(found[0])]
        if not cured:
            return None
        part, stage, reason = max(cured, key=lambda found: len(found[0]))
        return Halved(stage, reason, len(part), self.most_taken, self.calls)
