"""Hostile messages through ingestor, store, worker, model and sinks; `make fuzz` takes more."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.live_fuzz import run


async def test_each_hostile_message_is_a_dead_letter_or_a_result_and_its_neighbours_are_unharmed(
    tmp_path: Path,
) -> None:
    report = await run(tmp_path, seed=4, hostile=2_000, patience_s=90)
    print(report)
    assert not report.problems
    assert report.ends["dead"] > 1_000
    assert sum(report.ends.values()) == 4_000
