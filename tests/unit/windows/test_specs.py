"""Window settings: combinations that make no sense are refused with the reason and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from sinfer.config.model import explain
from sinfer.windows.specs import WindowSpec
from tests.support.window_reference import window_spec


class Task(BaseModel):
    """What a window's settings are a part of."""

    window: WindowSpec


def refusal(settings: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Task.model_validate({"window": settings})
    return str(explain(caught.value, "task 'ex_1'"))


EVENT = {"time": "event"}
TUMBLING = {"type": "tumbling", "size": "5s"}
SLIDING = {"type": "sliding", "size": "60s", "slide": "10s"}
SESSION = {"type": "session", "gap": "30s"}
COUNT = {"type": "count", "count": 100}
UPDATE = {**EVENT, "late": "update", "allowed_lateness": "1s"}


@pytest.mark.parametrize(
    "settings",
    [
        {**TUMBLING, "max_count": 100, "max_bytes": "1MiB", "max_wait": "1s"},
        {**TUMBLING, **EVENT, "max_count": 5, "idle": "5s", "late": "dead_letter"},
        {**TUMBLING, **UPDATE, "dedupe": "last", "max_future": "1d"},
        {**COUNT, "max_wait": "1s", "max_bytes": 1000, "dedupe": "first"},
        SLIDING,
        {**SLIDING, "size": "25s", **UPDATE, "max_out_of_orderness": 2},
        {**SESSION, "max_count": 10, "max_bytes": "64KiB", "max_wait": "5m"},
        {**SESSION, **EVENT, "max_out_of_orderness": "2s", "idle": 5},
    ],
)
def test_sensible_settings_are_taken(settings: dict[str, Any]) -> None:
    spec = window_spec(**settings)
    assert spec.type == settings["type"]
    assert window_spec(**spec.model_dump(mode="json", exclude_unset=True)) == spec


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "type"),
        ({"type": "hopping"}, "tumbling"),
        ({"type": "tumbling"}, "size: is required"),
        ({**TUMBLING, "siez": "1s"}, "siez: unknown key"),
        ({"type": "tumbling", "size": "0s"}, "size must be at least 1ms"),
        ({"type": "tumbling", "size": "0.4ms"}, "size must be at least 1ms"),
        ({"type": "tumbling", "size": "soon"}, "'soon' is no duration"),
        ({"type": "tumbling", "size": -5}, "not negative"),
        ({**TUMBLING, "max_count": 0}, "max_count"),
        ({**TUMBLING, "max_bytes": 0}, "max_bytes"),
        ({**TUMBLING, "max_wait": "0s"}, "max_wait must be at least 1ms"),
        ({**TUMBLING, **EVENT, "idle": "0s"}, "idle must be at least 1ms"),
        ({**TUMBLING, "idle": "5s"}, "idle only makes sense in event time; add 'time: event'"),
        ({**TUMBLING, "late": "drop"}, "late only makes sense in event time"),
        ({**TUMBLING, "max_out_of_orderness": "1s"}, "max_out_of_orderness only makes sense"),
        ({**TUMBLING, "max_future": "1h"}, "max_future only makes sense in event time"),
        ({**TUMBLING, **EVENT, "late": "update"}, "update needs allowed_lateness above 0s"),
        ({**TUMBLING, **EVENT, "allowed_lateness": "1s"}, "only makes sense with late: update"),
        ({**TUMBLING, **EVENT, "late": "keep"}, "'drop', 'dead_letter' or 'update'"),
        ({**TUMBLING, **UPDATE, "max_count": 5}, "have cut in parts; remove these"),
        ({**TUMBLING, **UPDATE, "max_wait": 5}, "have cut in parts; remove these"),
        ({"type": "count"}, "count: is required"),
        ({"type": "count", "count": 0}, "greater than or equal to 1"),
        ({**COUNT, "max_count": 5}, "max_count repeats count; remove it"),
        ({**COUNT, **EVENT}, "count windows know no time; remove 'time: event'"),
        ({**SLIDING, "slide": "61s"}, "size must not be less than slide"),
        ({**SLIDING, "slide": "0s"}, "slide must be at least 1ms"),
        ({**SLIDING, "slide": "1ms"}, "more than 1,000 windows; enlarge slide"),
        ({**SLIDING, "max_count": 5}, "make no sense for sliding windows"),
        ({**SLIDING, "max_bytes": 5}, "make no sense for sliding windows"),
        ({**SLIDING, "max_wait": 5}, "make no sense for sliding windows"),
        ({"type": "session", "gap": 0}, "gap must be at least 1ms"),
        ({**COUNT, "count": 1_000_001}, "count: Input should be less than or equal to 1000000"),
        ({**TUMBLING, "max_count": 1_000_001}, "less than or equal to 1000000 (got 1000001)"),
        ({**SESSION, **UPDATE}, "late: update is not for session windows"),
        ({**TUMBLING, "dedupe": "both"}, "'first' or 'last'"),
    ],
)
def test_settings_without_sense_are_refused_with_the_reason(
    settings: dict[str, Any], reason: str
) -> None:
    text = refusal(settings)
    assert reason in text
    assert text.startswith("task 'ex_1': window")
