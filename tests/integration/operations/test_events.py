"""What happens to windows is told once, in lines, and what was given up before all else."""

from __future__ import annotations

import pytest

from sinfer.operations.events import Happenings
from sinfer.store.connection import Store
from sinfer.store.history.ledger import LedgerEntry, pack_entry
from sinfer.store.keys import PartitionKeys
from sinfer.store.schedule import Schedule
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter, pack_dead_letter
from sinfer.windows.ids import Scope

pytestmark = pytest.mark.integration

SCOPE = Scope("pumps", "north", "in.w1")


@pytest.fixture
async def store(empty_store: Store) -> Store:
    await Schedule(empty_store).register(SCOPE)
    return empty_store


def window(count: int, attempts: int = 1, dead: int = 0) -> bytes:
    return pack_entry(
        LedgerEntry(
            "north/in.w1/all/1",
            "all",
            None,
            None,
            "count",
            0,
            [1, count - 1],
            count,
            9 * count,
            1,
            2,
            inference_ms=12,
            sinks_ms=3,
            attempts=attempts,
            dead=dead,
        )
    )


def letter(seq: int, error: str) -> bytes:
    message = Message(b"x", "in.w1", None, seq, 1)
    return pack_dead_letter(DeadLetter(message, "inference", error, 1))


async def test_a_line_for_each_window_once(store: Store) -> None:
    happenings = Happenings(store)
    assert await happenings.new() == []
    await store.redis.xadd(PartitionKeys(SCOPE).ledger, {"entry": window(20)})
    await store.redis.xadd(PartitionKeys(SCOPE).ledger, {"entry": b"of another version"})
    await store.redis.xadd(PartitionKeys(SCOPE).ledger, {"entry": window(1, attempts=3)})
    assert [found.text for found in await happenings.new()] == [
        "north/in.w1/all/1: 20 messages, closed by count, model 12 ms, sinks 3 ms",
        "north/in.w1/all/1: 1 message, closed by count, attempt 3, model 12 ms, sinks 3 ms",
    ]
    assert await happenings.new() == []


async def test_what_was_given_up_comes_first_with_each_reason_once(store: Store) -> None:
    happenings = Happenings(store)
    await store.redis.xadd(PartitionKeys(SCOPE).ledger, {"entry": window(9, dead=8)})
    for seq in (9, 2, 3, 4, 5, 6, 7):
        await store.redis.xadd(PartitionKeys(SCOPE).dead, {"letter": letter(seq, "too hot")})
    await store.redis.xadd(PartitionKeys(SCOPE).dead, {"letter": letter(8, "redis://me:hush@h")})
    found = await happenings.new()
    assert [(happening.text, happening.is_bad) for happening in found] == [
        ("north: messages 2, 3, 4, 5, 6 and 2 more given up: inference: too hot", True),
        ("north: message 8 given up: inference: redis://***@h", True),
        (
            "north/in.w1/all/1: 9 messages, closed by count, 8 given up, model 12 ms, sinks 3 ms",
            False,
        ),
    ]
