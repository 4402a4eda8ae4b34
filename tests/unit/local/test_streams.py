"""Which streams a product's tasks need."""

from __future__ import annotations

from typing import Any

from sinfer.local.streams import needed_streams
from tests.support.task_settings import Threshold, settings_of


def task(name: str, stream: str, sinks: list[dict[str, Any]] | None = None, **source: Any) -> Any:
    changes: dict[str, Any] = {"source": {"stream": stream, **source}}
    if sinks is not None:
        changes["sinks"] = sinks
    return Threshold.model_validate(settings_of(name, **changes))


def test_sources_and_results_have_a_stream_each() -> None:
    out = [{"type": "jetstream", "subject": "out.a"}]
    named = [{"type": "jetstream", "subject": "mine.b", "stream": "MINE"}]
    tasks = [
        task("a", "IN", out, subject="in.a"),
        task("b", "IN", named, partitions=["in.b", "in.c"]),
        task("d", "IN", named, subject="in.*"),
        task("c", "ALL"),
    ]
    assert needed_streams(tasks) == {
        "IN": ["in.*"],
        "ALL": ["all.>"],
        "RESULTS": ["out.a"],
        "MINE": ["mine.b"],
    }


def test_what_a_known_stream_takes_is_not_asked_for_again() -> None:
    out = [{"type": "jetstream", "subject": "in.out"}]
    known = {"IN": ["in.>"]}
    assert needed_streams([task("a", "IN", out, subject="in.a"), task("b", "IN")], known) == known
