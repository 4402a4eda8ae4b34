"""What a pipeline makes of a response, and the form in which sinks receive it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import msgspec


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
        base_id: what the ordinals are unique in: the id without the revision, the same for all
            firings of the window. In results that are known by their messages, the partition.
        revision: 0, or the number of times that late items made the window fire again.
        attempt: how often the window was claimed, from 1.
        start_ms, end_ms: the window's bounds, milliseconds since the epoch; None for count windows.
        closed_ms: when the window closed, milliseconds since the epoch.
        rows: the results, in the order of the window's items.
        by_message: whether results are known by their messages, in whichever window these are:
            windows that are cut anew, after Redis was wiped, then write no result twice.
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

    @property
    def key_prefix(self) -> str:
        """How the idempotency keys of these results begin; ``/ordinal`` follows."""
        return self.base_id if self.by_message else self.window_id

    def idempotency_key(self, row: ResultRow) -> str:
        """The same whenever this result is written.

        ``window_id/ordinal``, or ``task/partition/stream_seq`` where results are known by their
        messages.
        """
        return f"{self.key_prefix}/{row.ordinal}"

    def __iter__(self) -> Iterator[ResultRow]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)
