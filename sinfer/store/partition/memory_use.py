"""How much of Redis' memory the windows of a partition take: open, closed, done and dead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope
from sinfer.windows.records import Part, unpack_closed, unpack_record

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_SAMPLED = 16
"""Windows whose messages and outputs are measured, of open and of closed ones each."""


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of Redis' memory.

    Attributes:
        total: all that is stored of a partition, by samples of its windows.
        dead: its dead letters.
    """

    total: int
    dead: int


async def measure(store: Store, scope: Scope) -> MemoryUse:
    """Ask Redis, in two round trips, however many windows there are."""
    keys, redis = PartitionKeys(scope), store.redis
    pipeline = redis.pipeline(transaction=False)
    kinds = (
        keys.open, keys.closed, keys.deadlines, keys.ready, keys.leases, keys.awaiting, keys.tokens,
        keys.attempts, keys.refs, keys.segment_sizes, keys.members, keys.aside, keys.ledger,
        keys.unfinished,
    )  # fmt: skip
    for key in kinds:
        pipeline.memory_usage(key)
    pipeline.memory_usage(keys.dead, samples=0)
    for key in (keys.open, keys.closed, keys.refs):
        pipeline.hlen(key)
    pipeline.hrandfield(keys.open, _SAMPLED, withvalues=True)
    pipeline.hrandfield(keys.closed, _SAMPLED, withvalues=True)
    pipeline.hrandfield(keys.refs, _SAMPLED)
    answers = await store.ask(pipeline.execute(raise_on_error=False))
    *sizes, dead, opened, closed, shared = (_number(answer) for answer in answers[:-3])
    samples = [_pairs(answer) for answer in answers[-3:-1]]
    segments = [answers[-1]] if isinstance(answers[-1], bytes) else _list(answers[-1])
    own: list[list[str]] = []
    for name, blob in samples[0]:
        own.append(_open_segments(name, blob))
    for name, blob in samples[1]:
        own.append(_closed_segments(name, blob))
    pipeline = redis.pipeline(transaction=False)
    for window in own:
        for segment in window:
            pipeline.memory_usage(keys.segment(segment))
    for name, _ in samples[1]:
        pipeline.memory_usage(keys.output(name.decode()))
    for name in segments:
        pipeline.memory_usage(keys.segment(name.decode()))
    found = [_number(n) for n in await store.ask(pipeline.execute(raise_on_error=False))]
    count = sum(map(len, own))
    outputs = found[count : count + len(samples[1])]
    total = sum(sizes) + dead
    total += _scaled(found[:count], len(own), opened + closed)
    total += _scaled(outputs, len(outputs), closed)
    total += _scaled(found[count + len(outputs) :], len(segments), shared)
    return MemoryUse(total, dead)


def _scaled(sizes: Sequence[int], sampled: int, of: int) -> int:
    return sum(sizes) * of // sampled if sampled else 0


def _open_segments(name: bytes, blob: bytes) -> list[str]:
    try:
        record = unpack_record(blob)
    except Exception:  # others can be read
        return []
    parts = record.parts or (Part(name.decode(), record.chunks),)
    return [] if record.shared else [part.segment for part in parts]


def _closed_segments(name: bytes, blob: bytes) -> list[str]:
    try:
        window = unpack_closed(name, blob)
    except Exception:  # others can be read
        return []
    return [] if window.shares_segments else [part.segment for part in window.parts]


def _number(answer: Any) -> int:
    return answer if isinstance(answer, int) else 0


def _list(answer: Any) -> list[Any]:
    return answer if isinstance(answer, list) else []


def _pairs(answer: Any) -> list[tuple[bytes, bytes]]:
    words = _list(answer)
    return list(zip(words[::2], words[1::2], strict=True))
