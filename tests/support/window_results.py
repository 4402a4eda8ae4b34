"""Results of windows, as sinks receive them, for tests and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sinfer.encoding import to_json
from sinfer.types.result import ResultRow, WindowResults


def window_results(
    data: Sequence[Any] | int = 3,
    *,
    base_id: str = "ex_1/in.w1/all/0",
    task: str = "ex_1",
    key: str = "all",
    revision: int = 0,
    attempt: int = 1,
    start_ms: int | None = 1_700_000_000_000,
    end_ms: int | None = 1_700_000_005_000,
    ordinals: Iterable[int] | None = None,
) -> WindowResults:
    """The results of one window: the data given, or so many made-up ones."""
    if isinstance(data, int):
        data = [{"id": i, "y": i / 2, "revision": revision} for i in range(data)]
    places = range(len(data)) if ordinals is None else ordinals
    return WindowResults(
        product="example",
        task=task,
        partition="in.w1",
        key=key,
        window_id=f"{base_id}/{revision}",
        base_id=base_id,
        revision=revision,
        attempt=attempt,
        start_ms=start_ms,
        end_ms=end_ms,
        close_reason="time",
        closed_ms=1_700_000_005_250,
        rows=[ResultRow(i, to_json(d)) for i, d in zip(places, data, strict=True)],
    )


def current(results: WindowResults, *, incarnation: str = "inc", sink: str = "s") -> WindowResults:
    """The same results with the names that this version gives; the others have earlier ones."""
    return replace(
        results,
        base_id=f"{results.product}~{incarnation}/{results.base_id}",
        incarnation=incarnation,
        sink=sink,
    )


def message_results(
    *stream_seqs: int, window: str = "ex_1/in.w1/all/0", attempt: int = 1
) -> WindowResults:
    """The results of a window that are known by their messages; each is its stream sequence."""
    results = window_results(list(stream_seqs), ordinals=stream_seqs, attempt=attempt)
    return replace(results, window_id=window, base_id="ex_1/in.w1", by_message=True)
