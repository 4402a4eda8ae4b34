"""Which messages a segment should have, chunk by chunk: kept apart from the messages themselves.

A segment may vanish: Redis evicted it, or a person deleted it. Then this still tells which messages
were in it. Each chunk has one entry, written in the same step as the chunk:

    1:7,2,2,0;2:13,9;       chunk 1 has 7, 8, 9 and 12, chunk 2 has 13 to 22

The numbers are what ``pack_members`` makes of the stream sequences. Many chunks are kept in several
fields of one hash: ``segment``, ``segment#1``, ... with 256 chunks each, so that a commit never
copies much.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sinfer.store.history.ledger import pack_members
from sinfer.types.message import Message

_CHUNKS_IN_FIELD = 256
"""As in ``commit_batch.lua``."""


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
