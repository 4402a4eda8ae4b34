"""A partition in numbers, seen at one moment; the cost does not grow with its windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import STANDSTILL_FIELD, PartitionKeys
from sinfer.store.partition.account import RESULT_COUNTS
from sinfer.store.partition.backlog import oldest_ms
from sinfer.store.store_time import TIME_FIELDS, milliseconds, told
from sinfer.windows.ids import Scope

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_COUNTS = ("fetched", "sunk", "dead", "filtered", "late", *RESULT_COUNTS)
_FIELDS = ("owner", "lease_until", "source", STANDSTILL_FIELD, "deaths", "hand", "watermark")


@dataclass(frozen=True, slots=True)
class Summary:
    """What there is of a partition. ``Snapshot`` has the windows themselves.

    Attributes:
        now_ms: the partition's time.
        open, closed: windows.
        sealed, waiting, leased, aside: closed windows, by where they are.
        counts: messages and results, as the account counts them.
        letters: dead letters in the store.
        writer: who writes the partition now; empty when nobody does.
        checkpoint: how far it was read; None where that is not stored.
        stall: why its source gives no more messages, as its writer noted.
        deaths: how many writers in a row ended without giving it back.
        hand: what the last of them had in hand.
        watermark_ms: its watermark; 0 where there is none.
        unusable: why a worker cannot begin its windows.
        costly: why its windows cost several calls each.
        waits_ms: how long the first of the windows that wait could have been taken by a worker.
    """

    now_ms: int
    open: int
    closed: int
    sealed: int
    waiting: int
    leased: int
    aside: int
    counts: Mapping[str, int]
    letters: int
    writer: str
    checkpoint: bytes | None
    stall: str
    deaths: int
    hand: str
    watermark_ms: int
    unusable: str
    costly: str
    waits_ms: int


async def summary(store: Store, scope: Scope) -> Summary:
    """Read the numbers of a partition, in one round trip."""
    keys = PartitionKeys(scope)
    pipeline = store.redis.pipeline(transaction=True)
    pipeline.hmget(keys.meta, [*_COUNTS, *_FIELDS])
    for name in (keys.open, keys.closed, keys.aside):
        pipeline.hlen(name)
    for name in (keys.sealed, keys.ready, keys.leases):
        pipeline.zcard(name)
    pipeline.xlen(keys.dead)
    pipeline.time()
    pipeline.hmget(keys.meta, TIME_FIELDS)
    pipeline.get(keys.unusable)
    pipeline.get(keys.costly)
    pipeline.zrange(keys.ready, 0, 0, withscores=True)
    answers = await store.ask(pipeline.execute())
    meta, opened, closed, aside, sealed, waiting, leased, letters, clock, *answers = answers
    noted, unusable, costly, first = answers
    now_ms = told(milliseconds(clock), *noted)
    *numbers, owner, lease_until, checkpoint, stall, deaths, hand, watermark = meta
    is_alive = owner is not None and int(lease_until or 0) > now_ms
    return Summary(
        now_ms=now_ms,
        open=opened,
        closed=closed,
        sealed=sealed,
        waiting=waiting,
        leased=leased,
        aside=aside,
        counts={name: int(number or 0) for name, number in zip(_COUNTS, numbers, strict=True)},
        letters=letters,
        writer=_text(owner) if is_alive else "",
        checkpoint=checkpoint,
        stall=_text(stall),
        deaths=int(deaths or 0),
        hand=_text(hand),
        watermark_ms=int(watermark or 0),
        unusable=_text(unusable),
        costly=_text(costly),
        waits_ms=oldest_ms(first, now_ms),
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode(errors="replace")
