"""What a pipeline makes of a response, and the form in which sinks receive it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import msgspec

from sinfer.escaping import escape
from sinfer.types.message import Message

FALLBACK_SINK = "#fallback"
"""How a task's fallback is called in keys; no sink's own name has a ``#`` there."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result of a window.

    Attributes:
        data: what the sinks write; anything that JSON can hold, or a pydantic model.
        outcome: ``"failed"`` dead-letters the item, ``"retry"`` processes it again.
        reason: why, for the outcomes other than ``"ok"``.
    """

    data: Any = None
    outcome: Literal["ok", "failed", "retry"] = "ok"
    reason: str = ""

    @classmethod
    def failed(cls, reason: str) -> Result:
        """The item of this place failed for good: dead-letter it."""
        return cls(outcome="failed", reason=reason)

    @classmethod
    def retry(cls, reason: str) -> Result:
        """The item of this place failed for now: process it again."""
        return cls(outcome="retry", reason=reason)


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What a sink knows about results that it was given.

    Attributes:
        new: results that this write stored.
        known: results that were there already, by an earlier write of the same.
        collided: results that were not stored, since something else has their key.
    """

    new: int = 0
    known: int = 0
    collided: int = 0

    def __add__(self, other: Confirmed) -> Confirmed:
        return Confirmed(
            self.new + other.new, self.known + other.known, self.collided + other.collided
        )


class ResultRow(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One result on its way into sinks.

    Attributes:
        ordinal: its place among the results of the window, from 0; in results that are known by
            their messages, the message's stream sequence.
        data: the result as JSON.
    """

    ordinal: int
    data: bytes


@dataclass(frozen=True, slots=True)
class WindowResults:
    """All results of one window that a sink has to write, and where they come from.

    Attributes:
        window_id: the id of the window, revision included.
        base_id: what the ordinals are unique in among all results of all products: the id without
            the revision, the same for all firings of the window, with the product and the
            incarnation in front. In results that are known by their messages, the partition.
        revision: 0, or the number of times that late items made the window fire again.
        attempt: how often the window was claimed, from 1.
        start_ms, end_ms: the window's bounds, milliseconds since the epoch; None for count windows.
        closed_ms: when the window closed, milliseconds since the epoch.
        rows: the results, in the order of the window's items.
        by_message: whether results are known by their messages, in whichever window these are:
            windows that are cut again, after Redis was wiped, then write no result twice.
        incarnation: tells the messages of this partition from those of the same sequences before
            the stream was made again or the task started over. Empty in windows that were opened
            by a version that did not know it: their results keep the names of that version.
        sink: name of the sink that these go to, as keys have it.
        run: which rerun of a finished window this is; empty where it is none. Its results have the
            keys of those that they replace.
        is_again: whether the window is processed once more, whole or in part: dead letters were
            redriven, or it is run again.
        may_be_there: whether an earlier attempt may have written some of these: of this window, of
            its dead letters that are redriven now, or before Redis was wiped.
        messages: where results are those of single messages, each result's message, by ordinal.
    """

    product: str
    task: str
    partition: str
    key: str
    window_id: str
    base_id: str
    revision: int
    attempt: int
    start_ms: int | None
    end_ms: int | None
    close_reason: str
    closed_ms: int
    rows: list[ResultRow]
    by_message: bool = False
    incarnation: str = ""
    sink: str = ""
    run: str = ""
    is_again: bool = False
    may_be_there: bool = False
    messages: Mapping[int, Message] = field(default_factory=dict, repr=False)

    @property
    def window_name(self) -> str:
        """The window's id, and what tells it from windows of the same id: other products' ones,
        and those of another incarnation."""
        if not self.incarnation:
            return self.window_id
        return f"{qualifier(self.product, self.incarnation)}{self.window_id}"

    @property
    def key_prefix(self) -> str:
        """How the idempotency keys of these results begin; ``/ordinal`` follows."""
        return self.base_id if self.by_message else self.window_name

    @property
    def key_suffix(self) -> str:
        """How they end: ``@sink``."""
        return f"@{self.sink}" if self.incarnation and self.sink else ""

    @property
    def copy_suffix(self) -> str:
        """How names end by which copies of one write are told: a rerun is another write."""
        return f"{self.key_suffix}~{self.run}" if self.run else self.key_suffix

    @property
    def key_parts(self) -> tuple[str, str, str]:
        """``key_prefix``, ``key_suffix`` and ``copy_suffix``."""
        return self.key_prefix, self.key_suffix, self.copy_suffix

    def idempotency_key(self, row: ResultRow) -> str:
        """The same whenever this result is written to this sink, and no other result's.

        ``product~incarnation/window_id/ordinal@sink``, or, where results are known by their
        messages, ``product~incarnation/task/partition/stream_seq@sink``.
        """
        return f"{self.key_prefix}/{row.ordinal}{self.key_suffix}"

    def for_sink(self, name: str | None) -> WindowResults:
        """The same results on their way into one of the task's sinks; None for its fallback."""
        return replace(self, sink=sink_key(name))

    def __iter__(self) -> Iterator[ResultRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def sink_key(name: str | None) -> str:
    """How a sink of a task is called in keys; None for its fallback."""
    return FALLBACK_SINK if name is None else escape(name)


@lru_cache(maxsize=1024)
def qualifier(product: str, incarnation: str) -> str:
    """What stands in front of a window's id where ids of several products meet."""
    return f"{escape(product)}~{incarnation}/"
