"""Which versions of a pipeline opened the windows that are not done."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sinfer.store.keys import partition_keys
from sinfer.windows.ids import Scope
from sinfer.windows.records import unpack_closed, unpack_record

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_MOST_READ = 1000
"""Windows that are read: of more of them, so many are drawn by lot."""


async def waiting_versions(store: Store, scope: Scope) -> dict[str, int]:
    """How many windows each version opened that are open, or closed and not done; empty for those
    that named none. Of many windows that is an estimate, so that asking costs always the same.

    Raises:
        StoreError: a key is of another kind.
        UnavailableError: Redis cannot be reached.
    """
    keys = partition_keys(scope)
    pipeline = store.redis.pipeline(transaction=True)
    for key in (keys.open, keys.closed):
        pipeline.hlen(key)
        pipeline.hrandfield(key, _MOST_READ, withvalues=True)
    opened, open_words, closed, closed_words = await store.ask(pipeline.execute())
    found: Counter[str] = Counter()
    for windows, words, of_closed in ((opened, open_words, False), (closed, closed_words, True)):
        pairs = list(zip(words[::2], words[1::2], strict=True))
        read: Counter[str] = Counter()
        for name, value in pairs:
            record = unpack_closed(name, value).record if of_closed else unpack_record(value)
            read[record.version] += 1
        for version, count in read.items():
            found[version] += round(count * windows / len(pairs))
    return dict(sorted(found.items()))


def told_versions(versions: dict[str, int], own: str) -> str:
    """What to say of windows that wait and were opened by others than this version; empty when
    there are none.

    Args:
        versions: as ``waiting_versions`` has them.
        own: the version in question.
    """
    others = {version: count for version, count in versions.items() if version != own and count}
    return ", ".join(f"{count} of {named(version)}" for version, count in others.items())


def named(version: str) -> str:
    """A version in a sentence."""
    return f"version {version!r}" if version else "no version"
