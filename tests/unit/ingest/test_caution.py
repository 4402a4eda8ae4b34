"""What is noted and what is looked at in another process, after writers of a partition died."""

from __future__ import annotations

from typing import Any, cast

import pytest

from sinfer import Message
from sinfer.ingest import caution as module
from sinfer.ingest.caution import Caution
from sinfer.ingest.entries import Prepared
from sinfer.ingest.isolation import CarefulPreparer
from sinfer.ingest.work_in_hand import pack_hand, unpack_hand
from sinfer.source.checkpoint import Checkpoint, pack_checkpoint
from sinfer.store.partition.partition_state import PartitionState
from sinfer.store.partition.writer import PartitionWriter


class Writer:
    """Notes what it is told to note."""

    scope = "p/t/s"

    def __init__(self) -> None:
        self.noted: list[bytes] = []

    async def note_hand(self, hand: bytes, deaths: int) -> None:
        self.noted.append(hand)


class Careful:
    """Prepares nothing."""

    killed = 0

    async def prepare(self, messages: Any, now_ms: int) -> Prepared:
        raise AssertionError("only chosen here")

    async def release(self) -> None:
        pass


class Partition:
    """A partition behind which so many writers died."""

    def __init__(self, deaths: int, hand: bytes = b"", position: int = 0) -> None:
        self.writer, self.careful = Writer(), Careful()
        state = PartitionState(
            pack_checkpoint(Checkpoint("s", position)), None, {}, deaths=deaths, hand=hand
        )
        self.caution = Caution(
            cast("PartitionWriter", self.writer), cast("CarefulPreparer", self.careful), state, 100
        )
        self.seq = position

    async def feed(self, count: int) -> list[tuple[int, int, bool]]:
        """Take so many messages; the parts as first and last sequence and whether with care."""
        messages = [Message(b"", "s", None, self.seq + n, 1) for n in range(1, count + 1)]
        self.seq += count
        parts = []
        while messages:
            chosen, prepare = await self.caution.choose(messages)
            parts.append((chosen[0].stream_seq, chosen[-1].stream_seq, prepare is not None))
            await self.caution.stored(chosen, chosen[-1].stream_seq)
            messages = messages[len(chosen) :]
        return parts


async def test_without_a_death_nothing_is_asked() -> None:
    assert not Partition(0).caution.is_needed


async def test_after_one_death_each_part_is_noted_before(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition(1)
    assert await partition.feed(100) == [(1, 64, False), (65, 100, False)]
    assert partition.writer.noted == [pack_hand(1, 64), pack_hand(65, 100)]
    assert partition.caution.is_needed
    monkeypatch.setattr(module, "_WATCH_S", 0.0)
    await partition.feed(1)
    assert not partition.caution.is_needed
    assert partition.writer.noted[-1] == b""


async def test_after_two_deaths_what_was_noted_is_looked_at_with_care_and_nothing_else() -> None:
    partition = Partition(2, pack_hand(5, 8), position=2)
    assert await partition.feed(10) == [(3, 4, False), (5, 8, True), (9, 12, False)]
    assert partition.caution.is_needed  # no killer was found: it is watched for a while


async def test_a_note_of_what_was_stored_since_accuses_nobody() -> None:
    partition = Partition(5, pack_hand(5, 8), position=8)
    assert await partition.feed(4) == [(9, 12, False)]


async def test_behind_a_killer_more_are_looked_at_with_care_and_then_all_is_as_usual() -> None:
    partition = Partition(2, pack_hand(1, 4))
    partition.careful.killed = 1
    parts = await partition.feed(4 + module._MORE)
    assert all(with_care for _, _, with_care in parts)
    assert not partition.caution.is_needed
    assert partition.writer.noted == [pack_hand(5, 4 + module._MORE), b""]


async def test_a_quiet_source_has_nothing_that_could_be_suspected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_WATCH_S", 0.0)
    partition = Partition(2, pack_hand(5, 8), position=2)
    await partition.caution.quiet()
    assert not partition.caution.is_needed


@pytest.mark.parametrize("noted", [b"", b"nonsense", b"1 2 3", b"1 x"])
def test_a_note_that_says_nothing_is_none(noted: bytes) -> None:
    assert unpack_hand(noted) is None
