"""Which partitions an ingestor takes, and which of the stored ones belong to no task any more."""

from __future__ import annotations

from sinfer import InferTaskConfig
from sinfer.ingest.assignment import Shares
from sinfer.store.boards.ingestors import Member
from sinfer.windows.ids import Scope
from tests.support.task_settings import Threshold, settings_of

A, B = Member("a"), Member("b")


def tasks(*ids: str) -> dict[str, InferTaskConfig]:
    source = {"stream": "S", "partitions": ["s.1", "s.2"]}
    return {name: Threshold.model_validate(settings_of(name, source=source)) for name in ids}


def test_all_partitions_are_shared_out_and_none_is_shared_twice() -> None:
    known = tasks(*(f"t{n}" for n in range(50)))
    of_a = Shares("p", A).of(known, [A, B]).keys()
    of_b = Shares("p", B).of(known, [A, B]).keys()
    assert len(of_a | of_b) == 100
    assert not of_a & of_b


def test_an_orphan_is_stored_belongs_to_no_task_and_is_of_the_own_share() -> None:
    stored = [
        Scope("p", "kept", "s.1"),
        Scope("p", "kept", "s.3"),  # a partition that the task gave up
        *(Scope("p", f"gone{n}", "s.1") for n in range(20)),
        Scope("other", "gone", "s.1"),
    ]
    known = tasks("kept")
    of_a, of_b = Shares("p", A), Shares("p", B)
    of_a.of(known, [A, B])
    of_b.of(known, [A, B])
    orphans = [*of_a.orphans(stored), *of_b.orphans(stored)]
    assert sorted(orphans) == sorted(stored[1:-1])
    assert of_a.orphans(stored)
    assert of_b.orphans(stored)
