"""What must hold when a chaos run is over: each message is in each sink once, or a dead letter."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js.api import AckPolicy, ConsumerConfig
from redis.asyncio import Redis

from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.windows.dead_letters import DeadLetter, unpack_dead_letter
from tests.chaos.messages import Fate, fate, number_of
from tests.chaos.site import PRODUCT, TWIN, Site, TaskPlan

_EXAMPLES = 8

_TRANSIENT_KEYS = (
    r"sinfer:(partitions|due|memory|paused|starts|consumers|clock:\{sinfer:due\})",
    r"sinfer:ingestors:chaos(-twin)?",
    r"sinfer:alive:\{sinfer:due\}",  # of workers and beats, as above; expires
    r"sinfer:tasks:chaos(-twin)?",  # expires within seconds
    r"sinfer:refusals:chaos(-twin)?/.*",  # what the next answer of the model clears
    r"sinfer:endpoint:\{.*\}:(breaker|clock|slots|waiting|learned|curve|ask:.*)",
    r"sinfer:endpoints:chaos(-twin)?",
    r"sinfer:read:chaos(-twin)?/.*",  # until the task is gone
    r"sinfer:\{.*\}:(meta|dead|ledger)",
    r"sinfer:\{.*\}:costly",  # expires within minutes
    r"sinfer:\{.*\}:away",  # which the next window puts right
    r"sinfer:(\{.*\}:)?ask:.*",  # expires within seconds
)
"""All that may be left in Redis when every message has come to its end."""

_BROKER_KEYS = (
    r"_kombu\.binding.*",
    r"unacked(_index|_mutex)?",  # what killed workers had in hand, until the visibility time-out
    r"sinfer\.(tick|chaos|chaos-twin)",  # hints that no worker took any more
)
"""All that may be left in the broker."""


@dataclass
class Outcomes:
    """What became of the messages of one task.

    Attributes:
        sql, jetstream: results in each sink by message number.
        second: results in the second JetStream sink; None where there is none.
        dead: dead letters by message number.
        copies: copies of dead letters in JetStream by message number.
        wrong: results that are not the model's answer.
    """

    sql: Counter[int] = field(default_factory=Counter)
    jetstream: Counter[int] = field(default_factory=Counter)
    second: Counter[int] | None = None
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
            numbers = [*range(published[task.id]), *site.poisons[task.id]]
            rerun = await _numbers_of(client, task, site.rerun[task.id])
            outcomes = await read_outcomes(site, client, store, task)
            _compare(task.id, outcomes, numbers, verdict, site.poisons[task.id], rerun)
            if task.is_twofold:
                outcomes = await read_outcomes(site, client, store, task, twin=True)
                name = f"{TWIN}/{task.id}"
                _compare(name, outcomes, numbers, verdict, site.poisons[task.id], set())
    finally:
        await client.close()
    return verdict


async def _numbers_of(client: Client, task: TaskPlan, sequences: Iterable[int]) -> set[int]:
    """The numbers of the messages that a stream has under sequences."""
    jetstream = client.jetstream()
    found = [await jetstream.get_msg(task.id, seq) for seq in sequences]
    return {number_of(message.data or b"") for message in found}


async def read_outcomes(
    site: Site, client: Client, store: Store, task: TaskPlan, *, twin: bool = False
) -> Outcomes:
    """Everything that is in the sinks and among the dead letters of a task, or of its twin."""
    outcomes = Outcomes()
    by, scope = (TWIN, task.twin) if twin else (PRODUCT, task.scope)
    rows = await asyncio.to_thread(_rows, site.database(task))
    _count(rows, by, outcomes.sql, outcomes.wrong)
    results = await _messages(client, f"{task.id}-out", task.results)
    _count(results, by, outcomes.jetstream, outcomes.wrong)
    if task.two_sinks:
        outcomes.second = Counter()
        results = await _messages(client, f"{task.id}-out", task.more_results)
        _count(results, by, outcomes.second, outcomes.wrong)
    dead = await _messages(client, f"{task.id}-dead", task.dead_letters)
    outcomes.copies.update(number_of(data) for data in dead)
    for _, fields in await store.ask(store.redis.xrange(PartitionKeys(scope).dead)):
        letter = unpack_dead_letter(fields[b"letter"])
        outcomes.dead.setdefault(number_of(letter.message.data), []).append(letter)
    return outcomes


def _compare(
    name: str,
    found: Outcomes,
    numbers: Iterable[int],
    verdict: Verdict,
    poisons: Mapping[int, str],
    rerun: Container[int],
) -> None:
    verdict.wrong += [f"{name}: {text}" for text in found.wrong]
    for number in numbers:
        verdict.messages += 1
        results = [found.sql[number], found.jetstream[number]]
        if found.second is not None:
            results.append(found.second[number])
        letters = found.dead.get(number, [])
        shown = ", ".join(map(str, results))
        label = f"{name} {number} (sql, jetstream {shown}, dead {len(letters)})"
        if number in poisons:
            label += f" {poisons[number]}"
        elif fate(number) == "filtered":
            if max(results) or letters:
                verdict.wrong.append(f"{label}: was to be filtered out")
            continue
        # A window that is run again while the model refuses all has letters beside its results.
        both = bool(letters) and max(results) > 0 and number not in rerun
        if max(results) > 1 or (len(letters) > 1 and number not in rerun) or both:
            reasons = "".join(f" [{letter.stage}: {letter.error}]" for letter in letters)
            verdict.duplicated.append(label + reasons)
        elif not letters and min(results) == 0:
            verdict.lost.append(label)
        elif number in poisons:
            if not letters and poisons[number] != "blocks":
                verdict.wrong.append(f"{label}: has a result")
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


def _count(results: Iterable[bytes], by: str, into: Counter[int], wrong: list[str]) -> None:
    for data in results:
        result = json.loads(data)
        if result["by"] != by:
            continue
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
    info = await jetstream.stream_info(stream, subjects_filter=subject)
    expected = (info.state.subjects or {}).get(subject, 0)
    subscription = await jetstream.pull_subscribe(
        subject, stream=stream, config=ConsumerConfig(ack_policy=AckPolicy.NONE)
    )
    found: list[bytes] = []
    read = 0
    try:
        while read < expected:
            for message in await subscription.fetch(1000, timeout=10):
                read += 1
                # Results of a rerun are stored beside those that they replace, and say so.
                if "Sinfer-Replaces" not in (message.headers or {}):
                    found.append(message.data)
    except NatsTimeoutError:
        raise AssertionError(f"{stream} gave {read} of {expected} messages") from None
    finally:
        await subscription.unsubscribe()
    return found


async def stray_keys(store: Store) -> list[str]:
    """Keys that are left in Redis although no message is under way."""
    names = await _names(store.redis)
    # What lives as long as something is under way has an end of its own as well.
    has_an_end = r".*:(ask:.*|clock|slots|breaker|costly)"
    passing = [name for name in names if re.fullmatch(has_an_end, name)]
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
