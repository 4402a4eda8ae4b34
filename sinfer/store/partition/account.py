"""The account of a partition: every message that was fetched is somewhere.

    fetched = buffered + in flight + sunk + dead + filtered + late

A message counts as sunk, or as dead when one of its windows gave it up, once its last window is
done. Messages of sliding windows, and of windows that may fire again, stay in shared segments until
then; the store knows how many each segment holds, and counts them when it frees the segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sinfer.store.keys import TAKEN_FIELD, PartitionKeys
from sinfer.store.work.damage import read_chunk
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow, WindowRecord, unpack_closed, unpack_record

if TYPE_CHECKING:
    from sinfer.store.connection import Store

COUNTS = ("fetched", "filtered", "late", "dead", "sunk")
"""The counts that commits and completions add up."""

CONFIRMED_COUNTS = ("results_new", "results_known", "results_collided")
"""What sinks confirm of results, added up by completions; see ``Account``."""

RESULT_COUNTS = ("results", "fruitless", *CONFIRMED_COUNTS)
"""What completions add up of results, apart from the messages; see ``Account``."""


TAKEN = TAKEN_FIELD
"""The count of windows of which at least one item came through."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the messages of a partition are.

    Attributes:
        fetched: taken from the stream.
        filtered: filtered out by ``preprocess``, at ingest or, of one window at least, by a worker.
        late: dropped because they came too late.
        dead: dead-lettered.
        sunk: done.
        buffered: in open windows.
        in_flight: in windows that are closed and not done.
        results: results that sinks have. These are counted apart from messages: there may be any
            number for each. A window that is processed again adds its results once more.
        fruitless: messages among the ``sunk`` of whose windows there was no result at all; of
            windows that share messages, once for each window.
        results_new: results that sinks stored, once for each sink that can tell.
        results_known: results that were there already, as after a worker died behind its writes.
        results_collided: results that a sink has under the key of something else. They are dead
            letters.
    """

    fetched: int
    filtered: int
    late: int
    dead: int
    sunk: int
    buffered: int
    in_flight: int
    results: int = 0
    fruitless: int = 0
    results_new: int = 0
    results_known: int = 0
    results_collided: int = 0

    @property
    def missing(self) -> int:
        """Messages that are nowhere; less than 0 when some are counted twice. Must be 0."""
        somewhere = self.filtered + self.late + self.dead + self.sunk
        return self.fetched - somewhere - self.buffered - self.in_flight


async def read_account(store: Store, scope: Scope) -> Account:
    """Add up a partition's account at one moment; the cost grows with its open windows."""
    keys = PartitionKeys(scope)
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.hmget(keys.meta, (*COUNTS, *RESULT_COUNTS))
    pipeline.hgetall(keys.open)
    pipeline.hgetall(keys.closed)
    pipeline.hgetall(keys.held)
    counts, opened, closed, held = await store.ask(pipeline.execute())
    return await with_unreadable(
        store,
        scope,
        add_up(counts, opened, closed, held),
        {name.decode(errors="replace"): unpack_record(blob) for name, blob in opened.items()},
        [unpack_closed(name, value) for name, value in closed.items()],
    )


def add_up(
    counts: Sequence[bytes | None],
    open_records: Mapping[bytes, bytes],
    closed_values: Mapping[bytes, bytes],
    held: Mapping[bytes, bytes],
) -> Account:
    """The account of a partition by what the store has of it, all seen at one moment."""
    buffered = 0
    in_flight = sum(int(messages) for messages in held.values())
    for window_id, blob in open_records.items():
        count = unpack_record(blob).count
        buffered += count
        if window_id in held:
            in_flight -= count
    for window_id, value in closed_values.items():
        window = unpack_closed(window_id, value)
        if not window.shares_segments:
            in_flight += window.record.count
    fetched, filtered, late, dead, sunk, *results = (int(count or 0) for count in counts)
    return Account(fetched, filtered, late, dead, sunk, buffered, in_flight, *results)


async def with_unreadable(
    store: Store,
    scope: Scope,
    account: Account,
    opened: Mapping[str, WindowRecord],
    closed: Iterable[ClosedWindow],
) -> Account:
    """Add the messages of windows whose records do not tell how many they have."""
    keys = PartitionKeys(scope)
    buffered, in_flight = account.buffered, account.in_flight
    for name, record in opened.items():
        if not record.count:
            buffered += await _messages_in(store, keys.segment(name))
    for window in closed:
        if window.problem and not window.record.count:
            for part in window.parts:
                in_flight += await _messages_in(store, keys.segment(part.segment))
    return replace(account, buffered=buffered, in_flight=in_flight)


async def _messages_in(store: Store, segment: str) -> int:
    """How many messages a segment has, as far as that can be told."""
    chunks = await store.ask(store.redis.lrange(segment, 0, -1))
    return sum(len(read_chunk(chunk) or ()) for chunk in chunks)
