"""What may be acknowledged while dead letters wait for their copies."""

from __future__ import annotations

from sinfer.ingest.dead_letter_gate import CopyGate
from sinfer.store.partition.unfinished_windows import Unfinished
from sinfer.windows.dead_letters import DeadEntry


def seen(copied: int | None = None, uncopied: int | None = None) -> Unfinished:
    """What the store says: the last letter that was copied, and the last one that was not."""
    return Unfinished(
        0,
        None,
        None if copied is None else DeadEntry(copied, 0),
        None if uncopied is None else DeadEntry(uncopied, 0),
    )


def test_without_uncopied_letters_all_passes_at_once() -> None:
    gate = CopyGate()
    assert gate.passing(9, [(1, 9)], seen()) == [(1, 9)]
    assert gate.passing(12, [(1, 12)], seen(copied=5)) == [(1, 12)]
    assert not gate.holds


def test_nothing_passes_until_the_letters_that_were_there_are_copied() -> None:
    gate = CopyGate()
    assert gate.passing(9, [(1, 9)], seen(uncopied=7)) == []
    assert gate.holds
    assert gate.passing(20, [(1, 20)], seen(copied=6, uncopied=7)) == []
    assert gate.passing(30, [(1, 30)], seen(copied=7)) == [(1, 30)]
    assert not gate.holds


def test_letters_that_die_later_do_not_hold_back_what_was_finished_before() -> None:
    gate = CopyGate()
    assert gate.passing(9, [(1, 9)], seen(uncopied=7)) == []
    assert gate.passing(20, [(1, 20)], seen(copied=7, uncopied=8)) == [(1, 9)]
    assert gate.holds
    assert gate.passing(30, [(1, 30)], seen(copied=8, uncopied=9)) == [(1, 20)]


def test_a_letter_that_is_gone_from_redis_holds_nothing_back() -> None:
    gate = CopyGate()
    assert gate.passing(9, [(1, 9)], seen(uncopied=7)) == []
    assert gate.passing(9, [(1, 9)], seen(copied=3)) == [(1, 9)]


def test_what_went_back_into_a_window_since_is_held_back() -> None:
    gate = CopyGate()
    assert gate.passing(9, [(1, 3), (5, 9)], seen(uncopied=7)) == []
    assert gate.passing(6, [(1, 3), (5, 6)], seen(copied=7, uncopied=8)) == [(1, 3), (5, 6)]
    assert gate.passing(2, [(1, 2)], seen(copied=8, uncopied=9)) == [(1, 2)]


def test_letters_are_in_the_order_of_redis() -> None:
    assert DeadEntry.of(b"9-2") < DeadEntry.of(b"10-0") < DeadEntry.of(b"10-11")
    assert str(DeadEntry.of(b"10-11")) == "10-11"
