"""Partitions are shared out evenly, and hardly change hands when ingestors come and go."""

from __future__ import annotations

from collections import Counter

from sinfer.store.boards.ingestors import Member, preferred
from sinfer.windows.ids import Scope

SCOPES = [Scope("p", f"task{n % 50}", f"in.{n}") for n in range(1000)]


def shares(members: list[str]) -> dict[Scope, str | None]:
    all_members = [Member(name) for name in members]
    return {
        scope: found.name if (found := preferred(scope, all_members)) else None for scope in SCOPES
    }


def test_without_members_nobody_is_preferred() -> None:
    assert preferred(SCOPES[0], []) is None


def test_the_order_of_the_members_does_not_matter() -> None:
    assert shares(["a", "b", "c"]) == shares(["c", "a", "b"])


def test_every_member_gets_about_the_same() -> None:
    counts = Counter(shares(["a", "b", "c", "d"]).values())
    assert sum(counts.values()) == 1000
    assert all(180 < count < 320 for count in counts.values()), counts


def test_when_a_member_leaves_only_its_partitions_change_hands() -> None:
    before, after = shares(["a", "b", "c"]), shares(["a", "c"])
    for scope, owner in before.items():
        assert after[scope] == owner or owner == "b"


def test_a_new_member_takes_partitions_and_moves_none_between_others() -> None:
    before, after = shares(["a", "b"]), shares(["a", "b", "c"])
    for scope, owner in before.items():
        assert after[scope] in (owner, "c")
    assert "c" in after.values()


def test_one_that_ingests_a_single_task_gets_all_of_it_from_those_of_other_tasks_and_no_other() -> (
    None
):
    a, b = Member("a", "task1"), Member("b", "task 2/%")
    assert preferred(Scope("p", "task1", "in"), [a, b]) == a
    assert preferred(Scope("p", "task 2/%", "in"), [a, b]) == b
    assert preferred(Scope("p", "task3", "in"), [a, b]) is None
    assert [Member.parse(str(member)) for member in (a, b, Member("c"))] == [a, b, Member("c")]
