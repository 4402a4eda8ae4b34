"""How a task's messages are windowed: the ``window:`` part of its configuration."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sinfer.config.model import ConfigModel
from sinfer.config.units import Bytes, Duration, to_ms, unit


class _WindowSpec(ConfigModel):
    """What every type of window has."""

    max_count: int | None = Field(default=None, ge=1, le=1_000_000, json_schema_extra=unit("items"))
    """Close early at this many items."""
    max_bytes: Bytes | None = Field(default=None, ge=1)
    """Close early when the payloads add up to this much."""
    max_wait: Duration | None = None
    """Close early this long after the window's first item arrived, by the store's clock."""
    deadline: Duration | None = None
    """Close early where waiting longer would bring results later than this after the window's first
    item arrived, as far as is known of the model."""
    time: Literal["event", "processing"] = "processing"
    """Whose time counts: the items' own, or the clock when they arrive."""
    max_out_of_orderness: Duration = Field(default="0s", validate_default=True)
    """How far behind the latest event time an item may come without being late."""
    allowed_lateness: Duration = Field(default="0s", validate_default=True)
    """With ``late: update``, how long after its end a window fires again for late items."""
    late: Literal["drop", "dead_letter", "update"] = "drop"
    """What becomes of items whose window has closed."""
    idle: Duration | None = None
    """Close what is open when the source has been quiet for so long (event time)."""
    max_future: Duration = Field(default="1m", validate_default=True)
    """Dead-letter items whose event time is further ahead of the clock than this."""
    dedupe: Literal["first", "last"] | None = None
    """Keep one item of each ``item_id`` in a window. Triggers count them all, as they came."""

    @model_validator(mode="after")
    def _combination(self) -> Self:
        if self.max_wait is not None and to_ms(self.max_wait) < 1:
            raise ValueError("max_wait must be at least 1ms")
        if self.deadline is not None and to_ms(self.deadline) < 1:
            raise ValueError("deadline must be at least 1ms")
        if self.idle is not None and to_ms(self.idle) < 1:
            raise ValueError("idle must be at least 1ms")
        if self.time == "processing":
            given = self.model_fields_set & {
                "max_out_of_orderness", "allowed_lateness", "late", "idle", "max_future",
            }  # fmt: skip
            if given:
                raise ValueError(
                    f"{', '.join(sorted(given))} only makes sense in event time;"
                    " add 'time: event' or remove it"
                )
        if self.late == "update":
            if to_ms(self.allowed_lateness) == 0:
                raise ValueError("late: update needs allowed_lateness above 0s")
            if self.has_early_triggers:
                raise ValueError(
                    "late: update fires a whole window again, which max_count, max_bytes, max_wait"
                    " and deadline have cut in parts; remove these, or choose late: drop or"
                    " dead_letter"
                )
        elif to_ms(self.allowed_lateness) > 0:
            raise ValueError("allowed_lateness only makes sense with late: update")
        return self

    @property
    def largest(self) -> int | None:
        """How many items a window holds at most; None for any number."""
        return self.max_count

    @property
    def has_early_triggers(self) -> bool:
        """Whether a window can close before its time."""
        triggers = (self.max_count, self.max_bytes, self.max_wait, self.deadline)
        return any(trigger is not None for trigger in triggers)


class TumblingWindow(_WindowSpec):
    """Windows ``[n·size, (n+1)·size)``, aligned to the epoch."""

    type: Literal["tumbling"]
    size: Duration
    """How long a window is."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if to_ms(self.size) < 1:
            raise ValueError("size must be at least 1ms")
        return self


class CountWindow(_WindowSpec):
    """Windows of ``count`` items, whatever their times."""

    type: Literal["count"]
    count: int = Field(ge=1, le=1_000_000, json_schema_extra=unit("items"))
    """Items in a window; a window closes with its last one."""

    @property
    def largest(self) -> int:
        """See above."""
        return self.count

    @model_validator(mode="after")
    def _only_counts(self) -> Self:
        if self.max_count is not None:
            raise ValueError("max_count repeats count; remove it")
        if self.time == "event":
            raise ValueError("count windows know no time; remove 'time: event'")
        return self


class SlidingWindow(_WindowSpec):
    """Windows ``[n·slide, n·slide + size)``: an item belongs to about size/slide of them."""

    type: Literal["sliding"]
    size: Duration
    """How long a window is."""
    slide: Duration
    """How far apart windows begin."""

    @model_validator(mode="after")
    def _shape(self) -> Self:
        size, slide = to_ms(self.size), to_ms(self.slide)
        if slide < 1:
            raise ValueError("slide must be at least 1ms")
        if size < slide:
            raise ValueError("size must not be less than slide, or items would fall between")
        if size > 1000 * slide:
            raise ValueError("an item would belong to more than 1,000 windows; enlarge slide")
        if self.has_early_triggers:
            raise ValueError(
                "max_count, max_bytes, max_wait and deadline make no sense for sliding windows,"
                " which share their items; remove them"
            )
        return self


class SessionWindow(_WindowSpec):
    """Windows of items less than ``gap`` apart; items that bridge two windows merge them."""

    type: Literal["session"]
    gap: Duration
    """A window ends when no item came for so long."""

    @model_validator(mode="after")
    def _positive(self) -> Self:
        if to_ms(self.gap) < 1:
            raise ValueError("gap must be at least 1ms")
        if self.late == "update":
            raise ValueError("late: update is not for session windows, whose bounds move")
        return self


WindowSpec = Annotated[
    TumblingWindow | CountWindow | SlidingWindow | SessionWindow, Field(discriminator="type")
]
"""One of the window types, told apart by ``type``."""


def layout_of(spec: TumblingWindow | CountWindow | SlidingWindow | SessionWindow) -> Hashable:
    """What decides where windows begin and how they are stored.

    Open windows can go on under another spec of the same layout, and under no other.
    """
    shape = (getattr(spec, name, None) for name in ("size", "slide", "gap"))
    return spec.type, spec.time, spec.late == "update", spec.has_early_triggers, *shape
