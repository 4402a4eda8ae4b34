"""The state is small and comes back as it was."""

from __future__ import annotations

import msgspec
import pytest

from sinfer.source.checkpoint import Checkpoint, pack_checkpoint


def test_it_comes_back_as_it_was() -> None:
    state = Checkpoint("2026-01-02T03:04:05.123456789Z", 2**60, [(2**60 + 2, 2**60 + 9)], "c")
    assert Checkpoint.decode(pack_checkpoint(state)) == state


def test_it_is_a_few_dozen_bytes() -> None:
    assert len(pack_checkpoint(Checkpoint("2026-01-02T03:04:05.123456789Z", 2**60))) < 60


def test_a_state_without_later_fields_can_be_read() -> None:
    assert Checkpoint.decode(msgspec.msgpack.encode(["c", 7])) == Checkpoint("c", 7)


def test_something_else_is_refused() -> None:
    with pytest.raises(ValueError):
        Checkpoint.decode(b"\x01")


def test_what_was_never_read_does_not_count_as_read_because_later_messages_were() -> None:
    state = Checkpoint("", 10, [(20, 29), (40, 49)])
    assert state.read_through(45) == [(1, 10), (20, 29), (40, 45)]
    assert state.read_through(15) == [(1, 10)]
    assert state.read_through(5) == [(1, 5)]
    assert state.read_through(0) == []
