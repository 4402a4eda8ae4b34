"""Whether the messages of a closed window are all there, and which are not.

A segment may vanish: Redis evicted it, or a person deleted it. So which messages it should have is
kept apart from them, chunk by chunk. Each chunk has one entry, written in the same step as it:

    1:7,2,2,0;2:13,9;       chunk 1 has 7, 8, 9 and 12, chunk 2 has 13 to 22

The numbers are what ``pack_members`` makes of the stream sequences. Many chunks are kept in several
fields of one hash: ``segment``, ``segment#1``, ... with 256 chunks each, so that a commit never
copies much.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from sinfer.types.message import Message, unpack_chunk
from sinfer.windows.records import ClosedWindow

if TYPE_CHECKING:
    from sinfer.store.connection import Store
    from sinfer.store.keys import PartitionKeys

Expected = Mapping[int, list[int]]
"""Packed sequences by the places of a segment's chunks, from 1; see ``read_members``."""

_CHUNKS_IN_FIELD = 256
"""As in ``commit_batch.lua``."""


def pack_members(sequences: Iterable[int]) -> list[int]:
    """Ascending sequences as ranges: gap before a range, further members of it, and so on.

    One number is a byte or two in the store, and an unbroken window needs two of them: 7, 8, 9, 12
    is ``[7, 2, 2, 0]``.
    """
    packed: list[int] = []
    expected = 0
    for seq in sequences:
        if packed and seq == expected:
            packed[-1] += 1
        else:
            packed += [seq - expected, 0]
        expected = seq + 1
    return packed


def unpack_members(packed: list[int]) -> Iterator[int]:
    """The inverse of ``pack_members``."""
    seq = 0
    for place in range(0, len(packed), 2):
        seq += packed[place]
        for _ in range(packed[place + 1] + 1):
            yield seq
            seq += 1


def members_entry(place: int, messages: Iterable[Message]) -> str:
    """The entry of one chunk.

    Args:
        place: its place in the segment, from 1.
        messages: those in it, in any order.
    """
    packed = pack_members(sorted([message.stream_seq for message in messages]))
    return f"{place}:{','.join(map(str, packed))};"


def members_fields(segment: str, chunks: int) -> list[str]:
    """The fields that have the entries of a segment's first chunks."""
    more = range(1, (chunks - 1) // _CHUNKS_IN_FIELD + 1)
    return [segment, *(f"{segment}#{number}" for number in more)]


def read_members(values: Sequence[bytes | None]) -> dict[int, list[int]]:
    """What the fields of a segment say: packed sequences by the places of chunks, from 1.

    Entries that cannot be read are left out, as if they were not there.
    """
    found = {}
    for value in values:
        for entry in (value or b"").split(b";"):
            place, colon, numbers = entry.partition(b":")
            try:
                if colon:
                    found[int(place)] = [int(number) for number in numbers.split(b",")]
            except ValueError:
                continue
    return found


class Damage(msgspec.Struct, array_like=True, frozen=True):
    """What is wrong with a window whose messages are not all there.

    Attributes:
        reason: in one line.
        lost: stream sequences of the messages that are gone, as ``pack_members`` writes them.
        unknown: so many more are gone, of which it is not known which they were.
    """

    reason: str
    lost: list[int] = []
    unknown: int = 0

    @property
    def sequences(self) -> list[int]:
        """Stream sequences of the messages that are gone, ascending."""
        return list(unpack_members(self.lost))

    @property
    def count(self) -> int:
        """How many messages are gone."""
        return sum(1 for _ in unpack_members(self.lost)) + self.unknown


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Damage)


def pack_damage(damage: Damage) -> bytes:
    """Encode what is wrong with a window for the store."""
    return _encoder.encode(damage)


def unpack_damage(blob: bytes) -> Damage:
    """Decode what is wrong with a window."""
    return _decoder.decode(blob)


def unpack_aside(value: bytes) -> tuple[int, Damage]:
    """Decode what is kept of a window that is set aside: since when (ms), and what is wrong."""
    since_ms, _, blob = value.partition(b" ")
    return int(since_ms), unpack_damage(blob)


class Contents:
    """What the store has of a window, held against what it should have.

    Args:
        window: the window.
        chunks: of each of its parts the chunks that the store has.
        expected: of each of its parts what should be in its chunks.

    Attributes:
        messages: those that are there, in the order of the stream.
        lost: chunks that are to be replaced, by segment and place (from 1), and the sequences that
            should be in them.
        segments: in which part each message is, from 0, by its sequence.
        damage: what is wrong; None when all is as it should be.
    """

    def __init__(
        self,
        window: ClosedWindow,
        chunks: Sequence[Sequence[bytes]],
        expected: Sequence[Expected],
    ) -> None:
        self.window = window
        self.messages: list[Message] = []
        self.lost: dict[tuple[str, int], list[int]] = {}
        self.segments: dict[int, int] = {}
        self._gone: set[int] = set()
        self._wrong: set[str] = set()
        for number, part in enumerate(window.parts):
            for place in range(1, part.chunks + 1):
                blob = chunks[number][place - 1] if place <= len(chunks[number]) else None
                self._take((part.segment, place), number, blob, expected[number].get(place))
        self.messages.sort(key=_sequence)
        self.damage = self._damage()

    def _take(
        self, at: tuple[str, int], part: int, blob: bytes | None, wanted: list[int] | None
    ) -> None:
        found = read_chunk(blob)
        if found is None:
            self._wrong.add("chunks are gone" if not blob else "chunks cannot be read")
        sequences = sorted([message.stream_seq for message in found or ()])
        if wanted is not None and not _are(sequences, wanted):
            should = list(unpack_members(wanted))
            self.lost[at] = should
            self._gone.update(set(should).difference(sequences))
            if set(sequences).difference(should) or len(sequences) > len(should):
                self._wrong.add("messages are there that do not belong to it")
                found = [m for m in found or () if m.stream_seq in should]
        for message in found or ():
            self.messages.append(message)
            self.segments[message.stream_seq] = part

    def _damage(self) -> Damage | None:
        record, messages = self.window.record, self.messages
        unknown = record.count - len(messages) - len(self._gone)
        if unknown < 0:
            self._wrong.add("it has more messages than were counted")
        if len(self.segments) < len(messages):
            self._wrong.add("messages are in it twice")
        if unknown > 0 or self._gone:
            self._wrong.add("messages are gone")
        if not self._wrong and not self.lost and not self._is_as_recorded():
            self._wrong.add("its messages are not those that were recorded")
        if not self._wrong and not self.lost:
            return None
        gone = len(self._gone) + max(0, unknown)
        first = f"{gone} of {record.count} messages are gone" if gone else ""
        others = sorted(self._wrong - {"messages are gone"})
        reason = "; ".join([*([first] if first else []), *others])
        return Damage(reason, pack_members(sorted(self._gone)), max(0, unknown))

    def _is_as_recorded(self) -> bool:
        record, messages = self.window.record, self.messages
        return not messages or (
            messages[0].stream_seq == record.first_seq
            and messages[-1].stream_seq == record.last_seq
            and sum([len(message.data) for message in messages]) == record.bytes
        )


async def read_contents(
    store: Store, keys: PartitionKeys, windows: Sequence[ClosedWindow]
) -> list[Contents]:
    """What the store has of closed windows of a partition."""
    pipeline = store.redis.pipeline(transaction=False)
    for window in windows:
        for part in window.parts:
            pipeline.lrange(keys.segment(part.segment), 0, max(0, part.chunks - 1))
            pipeline.hmget(keys.members, members_fields(part.segment, part.chunks))
    answers = iter(await store.ask_each(pipeline))
    found = []
    for window in windows:
        pairs = [(next(answers) or [], read_members(next(answers) or [])) for _ in window.parts]
        found.append(Contents(window, [c for c, _ in pairs], [e for _, e in pairs]))
    return found


def _sequence(message: Message) -> int:
    return message.stream_seq


def _are(sequences: list[int], packed: list[int]) -> bool:
    """Whether sequences are those that ``pack_members`` made such numbers of."""
    place = first = 0
    for gap, more in zip(packed[::2], packed[1::2], strict=False):
        first += gap
        if more >= len(sequences) - place:
            return False
        last = first + more
        if sequences[place : place + more + 1] != list(range(first, last + 1)):
            return False
        place, first = place + more + 1, last + 1
    return place == len(sequences) and len(packed) % 2 == 0


def read_chunk(blob: bytes | None) -> list[Message] | None:
    """The messages of a chunk; None when it is not there or cannot be read."""
    if not blob:
        return None
    try:
        return unpack_chunk(blob)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
