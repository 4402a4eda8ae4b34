"""What must hold when a chaos run is over: each message is in each sink once, or a dead letter."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig
from redis.asyncio import Redis

from sinfer.windows.dead_letters import DeadLetter, unpack_dead_letter
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.store import Store
from tests.chaos.messages import Fate, fate, number_of
from tests.chaos.site import Site, TaskPlan

_EXAMPLES = 8

_TRANSIENT_KEYS = (
    r"sinfer:(partitions|due|paused|clock:\{sinfer:due\})",
    r"sinfer:ingestors:chaos",
    r"sinfer:endpoint:\{.*\}:(breaker|clock|slots|ask:.*)",
    r"sinfer:\{.*\}:(meta|dead|ledger)",
    r"sinfer:\{.*\}:away",  # which the next window puts right
    r"sinfer:\{.*\}:ask:.*",  # expires within seconds
)
"""All that may be left in Redis when every message has come to its end."""

_BROKER_KEYS = (
    r"_kombu\.binding.*",
    r"unacked(_index|_mutex)?",  # what killed workers had in hand, until the visibility time-out
    r"sinfer\.(tick|chaos)",  # hints that no worker took any more
)
"""All that may be left in the broker."""


@dataclass
class Outcomes:
    """What became of the messages of one task.

    Attributes:
        sql, jetstream: results in each sink by message number.
        dead: dead letters by message number.
        copies: copies of dead letters in JetStream by message number.
        wrong: results that are not the model's answer.
    """

    sql: Counter[int] = field(default_factory=Counter)
    jetstream: Counter[int] = field(default_factory=Counter)
    dead: dict[int, list[DeadLetter]] = field(default_factory=dict)
    copies: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Verdict:
    """What is wrong with a run; all empty when nothing is.

    Attributes:
        lost: messages without their end, by task.
        duplicated: messages with more than one end, by task.
        wrong: other mistakes, as text.
        dead_innocents: messages that a fault of the model gave up, which they must say.
    """

    messages: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    dead_innocents: int = 0

    def __str__(self) -> str:
        text = (
            f"{self.messages} messages, {len(self.lost)} lost, {len(self.duplicated)} duplicated,"
            f" {len(self.wrong)} wrong, {self.dead_innocents} given up for an answer of the model"
        )
        for name in ("lost", "duplicated", "wrong"):
            listed = getattr(self, name)
            if listed:
                more = f" and {len(listed) - _EXAMPLES} more" if len(listed) > _EXAMPLES else ""
                text += f"\n  {name}: " + "; ".join(listed[:_EXAMPLES]) + more
        return text

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong)


async def judge(site: Site, store: Store, published: Mapping[str, int]) -> Verdict:
    """Read all sinks and dead letters and compare with what was published."""
    verdict = Verdict()
    client = await site.connect()
    try:
        for task in site.tasks:
            outcomes = await read_outcomes(site, client, store, task)
            _compare(task, outcomes, range(published[task.id]), verdict)
    finally:
        await client.close()
    return verdict


async def read_outcomes(site: Site, client: Client, store: Store, task: TaskPlan) -> Outcomes:
    """Everything that is in the sinks and among the dead letters of a task."""
    outcomes = Outcomes()
    rows = await asyncio.to_thread(_rows, site.database(task))
    _count(rows, outcomes.sql, outcomes.wrong)
    results = await _messages(client, f"{task.id}-out", task.results)
    _count(results, outcomes.jetstream, outcomes.wrong)
    dead = await _messages(client, f"{task.id}-dead", task.dead_letters)
    outcomes.copies.update(number_of(data) for data in dead)
    for _, fields in await store.ask(store.redis.xrange(PartitionKeys(task.scope).dead)):
        letter = unpack_dead_letter(fields[b"letter"])
        outcomes.dead.setdefault(number_of(letter.message.data), []).append(letter)
    return outcomes


def _compare(task: TaskPlan, found: Outcomes, numbers: Iterable[int], verdict: Verdict) -> None:
    verdict.wrong += [f"{task.id}: {text}" for text in found.wrong]
    for number in numbers:
        verdict.messages += 1
        results = (found.sql[number], found.jetstream[number])
        letters = found.dead.get(number, [])
        label = (
            f"{task.id} {number} (sql {results[0]}, jetstream {results[1]}, dead {len(letters)})"
        )
        if fate(number) == "filtered":
            if results != (0, 0) or letters:
                verdict.wrong.append(f"{label}: was to be filtered out")
            continue
        if max(results) > 1 or len(letters) > 1 or (letters and max(results) > 0):
            reasons = "".join(f" [{letter.stage}: {letter.error}]" for letter in letters)
            verdict.duplicated.append(label + reasons)
        elif not letters and min(results) == 0:
            verdict.lost.append(label)
        elif letters:
            if not _is_right(fate(number), letters[0]):
                letter = letters[0]
                verdict.wrong.append(f"{label}: {letter.stage}: {letter.error}")
            verdict.dead_innocents += fate(number) == "result"
        elif fate(number) != "result":
            verdict.wrong.append(f"{label}: has a result")


def _is_right(kind: Fate, letter: DeadLetter) -> bool:
    """Whether a dead letter names the reason that it must have."""
    if kind == "unreadable":
        return letter.stage == "preprocess" and "JSONDecodeError" in letter.error
    # The model refused it: by itself, or because a fault had it refuse whatever came.
    if letter.stage == "results":
        return "zip() argument 2 is shorter" in letter.error  # an answer with a result too few
    if kind == "refused":
        return letter.stage == "inference"
    return re.search(r": (400|413|422|500) ", letter.error) is not None


def _count(results: Iterable[bytes], into: Counter[int], wrong: list[str]) -> None:
    for data in results:
        result = json.loads(data)
        into[result["id"]] += 1
        if result["y"] != result["id"]:
            wrong.append(f"the result of {result['id']} is {result['y']}")


def _rows(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=20)) as connection:
        return [row[0] for row in connection.execute("SELECT result FROM results")]


async def _messages(client: Client, stream: str, subject: str) -> list[bytes]:
    jetstream = client.jetstream()
    expected = (await jetstream.stream_info(stream)).state.messages
    subscription = await jetstream.pull_subscribe(
        subject, stream=stream, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    found: list[bytes] = []
    try:
        while len(found) < expected:
            found += [m.data for m in await subscription.fetch(1000, timeout=10)]
    except NatsTimeoutError:
        raise AssertionError(f"{stream} gave {len(found)} of {expected} messages") from None
    finally:
        await subscription.unsubscribe()
    return found


async def stray_keys(store: Store) -> list[str]:
    """Keys that are left in Redis although no message is under way."""
    names = await _names(store.redis)
    # What lives as long as something is under way has an end of its own as well.
    passing = [name for name in names if re.fullmatch(r".*:(ask:.*|clock|slots|breaker)", name)]
    for_ever = [name for name in passing if await store.ask(store.redis.ttl(name)) == -1]
    return _not_in(_TRANSIENT_KEYS, names) + [f"{name} (never expires)" for name in for_ever]


async def stray_broker_keys(broker: Redis) -> list[str]:
    """Keys that are left in the broker although all workers have ended."""
    return _not_in(_BROKER_KEYS, await _names(broker))


async def _names(redis: Redis) -> list[str]:
    return sorted([name.decode() async for name in redis.scan_iter(count=1000)])


def _not_in(allowed: Iterable[str], names: Iterable[str]) -> list[str]:
    known = re.compile("|".join(f"(?:{pattern})" for pattern in allowed))
    return [name for name in names if not known.fullmatch(name)]


async def stray_consumers(site: Site) -> list[str]:
    """Consumers that nobody asked for and that do not vanish by themselves.

    An ingestor that was killed leaves the consumer it read by position, for some minutes.
    """
    stray = []
    client = await site.connect()
    try:
        for task in site.tasks:
            for info in await client.jetstream().consumers_info(task.id):
                is_readers = task.durable and info.name == f"{task.id}-reader"
                if not is_readers and not info.config.inactive_threshold:
                    stray.append(f"{task.id}/{info.name}")
    finally:
        await client.close()
    return stray
