"""What the windows of a partition hold that are not done.

Where acknowledgements wait for windows, a sorted set (``unfinished``) has the open and the closed
ones by their first messages. Commits add to it, completions remove; what else ends a window leaves
it there, and it is forgotten when it has become the first. A writer that finds the set behind the
commits makes it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING

from sinfer.store.keys import INDEXED_FIELD, partition_keys
from sinfer.windows.dead_letters import DeadEntry
from sinfer.windows.ids import Scope
from sinfer.windows.records import WindowRecord, unpack_closed

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_MOST_READ = 1000
"""Closed windows that are read: of more, what they hold is an estimate."""

_AT_ONCE = 2000


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What the windows of a partition hold that are not done.

    Attributes:
        bytes: payloads of closed windows, counted once for each window that holds them. Of more
            than a thousand windows it is an estimate.
        first_seq: least stream sequence among the messages of open and closed windows, where that
            was asked for; None when there is no such window.
        copied: the last dead letter that a copy was sent of, where that was asked for; None when
            there is none.
        uncopied: the last dead letter of all, where that was asked for and no copy of it was sent
            yet; None when all that there are were copied.
    """

    bytes: int
    first_seq: int | None
    copied: DeadEntry | None = None
    uncopied: DeadEntry | None = None


@dataclass(frozen=True, slots=True)
class SeenUnfinished:
    """What the store says of them, at one moment.

    Attributes:
        token: the fencing token of the writer.
        commits: how many there were.
        bytes, first_seq, copied: as of ``Unfinished``.
        last_letter: the last dead letter of all that were asked for; None where there is none.
    """

    token: int
    commits: int
    bytes: int
    first_seq: int | None
    copied: DeadEntry | None
    last_letter: DeadEntry | None


async def look_at_unfinished(
    store: Store, scope: Scope, *, behind: str, wants_first: bool
) -> SeenUnfinished:
    """Look at what is not done, at a cost that does not grow with it.

    Args:
        store: the window store.
        scope: the partition.
        behind: look for the last dead letter behind this id; empty for none.
        wants_first: look for the first message that is not done.

    Raises:
        StoreError, UnavailableError: what the store raises.
    """
    keys = partition_keys(scope)
    names = [keys.meta, keys.open, keys.closed, keys.unfinished, keys.dead]
    while True:
        token, commits, copied, closed, first, letter, *words = await store.run(
            "look_at_unfinished_windows", names, [int(wants_first), behind, _MOST_READ]
        )
        if first != b"more":
            break
    pairs = list(zip(words[::2], words[1::2], strict=True))
    size = sum(unpack_closed(name, value).record.bytes for name, value in pairs)
    return SeenUnfinished(
        token=int(token or 0),
        commits=int(commits),
        bytes=round(size * closed / len(pairs)) if pairs else 0,
        first_seq=int(first) if first else None,
        copied=DeadEntry.of(copied) if copied else None,
        last_letter=DeadEntry.of(letter) if letter else None,
    )


async def index_unfinished(
    store: Store, scope: Scope, commits: int, opened: Mapping[str, WindowRecord]
) -> None:
    """Make the index anew, unless it is complete.

    Args:
        store: the window store.
        scope: the partition, whose writer lease is held.
        commits: how many there were.
        opened: its open windows by id.
    """
    keys, redis = partition_keys(scope), store.redis
    indexed = await store.ask(redis.hget(keys.meta, INDEXED_FIELD))
    if indexed is not None and int(indexed) == commits:
        return
    await store.ask(redis.unlink(keys.unfinished))
    closed: dict[str, int] = {}
    async with store.errors():
        async for name, value in redis.hscan_iter(keys.closed, count=_AT_ONCE):
            closed[name.decode()] = unpack_closed(name, value).record.first_seq
    seqs = chain(((name, record.first_seq) for name, record in opened.items()), closed.items())
    while part := dict(islice(seqs, _AT_ONCE)):
        await store.ask(redis.zadd(keys.unfinished, part))
    if commits:
        await store.ask(redis.hset(keys.meta, INDEXED_FIELD, commits))
