"""Hostile messages and tasks, drawn from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

_HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 80, 1e308, float("nan"), float("inf"), "", " ", "x" * 5000, "a/b{c}\n",
    "\ud800", "\x00", "%s%n${HOME}", "'; DROP TABLE results; --", [], {}, [[]], {"": {}},
    [None] * 50,
)  # fmt: skip

GOOD_TASK: dict[str, Any] = {
    "id": "t",
    "keyed": True,
    "source": {"stream": "IN", "subject": "in.t"},
    "window": {"type": "count", "count": 10, "max_wait": "1s"},
    "inference": {"type": "v2", "url": "http://127.0.0.1:1", "model": "m", "timeout": "5s"},
    "sinks": [{"type": "log"}, {"type": "jetstream", "subject": "out.t"}],
    "limits": {"lease": "2s", "max_attempts": 5},
}


def fuzzed_messages(seed: int, count: int, largest: int = 64 * 1024) -> Iterator[bytes]:
    """Payloads of which some happen to be good."""
    chance = random.Random(seed)

    def item() -> dict[str, Any]:
        number = chance.randrange(10**6)
        return {"id": number, "key": f"k{number % 3}", "time": 1e9, "fate": "result"}

    def changed() -> bytes:
        value = item()
        value[chance.choice([*value, "more"])] = chance.choice(_HOSTILE)
        return json.dumps(value).encode()

    def cut() -> bytes:
        whole = json.dumps(item()).encode()
        return whole[: chance.randrange(len(whole))]

    def flipped() -> bytes:
        data = bytearray(json.dumps(item()).encode())
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data)

    def deep() -> bytes:
        depth = chance.choice([100, 10_000, 100_000])
        return chance.choice([b"[", b'{"id":']) * min(depth, largest // 6)

    def digits() -> bytes:
        return b'{"id": ' + b"9" * chance.choice([50, 4000, 5000]) + b', "fate": "result"}'

    def noise() -> bytes:
        return chance.randbytes(chance.choice([0, 1, 20, 2000]))

    def large() -> bytes:
        return b'{"id": 1, "key": "' + b"k" * chance.randrange(largest) + b'"}'

    kinds: list[Callable[[], bytes]] = [changed, changed, cut, flipped, deep, digits, noise, large]
    for _ in range(count):
        yield chance.choice(kinds)()


def fuzzed_tasks(seed: int, count: int) -> Iterator[Any]:
    """Settings of tasks with one to three hostile values in hostile places."""
    chance = random.Random(seed)
    for _ in range(count):
        task: Any = copy.deepcopy(GOOD_TASK)
        for _ in range(chance.randint(1, 3)):
            place: Any = task
            while True:
                steps = list(place) if isinstance(place, dict) else list(range(len(place)))
                step = chance.choice([*steps, "more\n{}"]) if isinstance(place, dict) else (
                    chance.choice(steps) if steps else None
                )  # fmt: skip
                if step is None:
                    break
                below = place.get(step) if isinstance(place, dict) else place[step]
                if isinstance(below, (dict, list)) and below and chance.random() < 0.8:
                    place = below
                    continue
                place[step] = copy.deepcopy(chance.choice(_HOSTILE))
                break
        yield task


def hostile_documents() -> list[bytes]:
    """Files as they were never meant: each was a crash of some reader of YAML or JSON."""
    good = json.dumps(GOOD_TASK).encode()
    laughs = b"".join(
        b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 9)
    )
    return [
        b"",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf{",
        b"tasks:",
        b"tasks: 7",
        b"- - - -",
        b"[" * 100_000,
        b"{" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"id":' * 100_000 + b"1" + b"}" * 100_000,
        b"- " * 50_000 + b"x",
        b"a0: &a0 [x]\n" + laughs,
        b"id: &a [*a]",
        b"&a {id: t, source: *a}",
        b"&a [*a, *a]",
        b"id: *nowhere",
        b"? [a, b]\n: c",
        b"? {a: b}\n: c",
        b"!!python/object/apply:os.system ['true']",
        b"!!binary zzz",
        b"!!timestamp 2001-99-99",
        b"id: 2001-13-45",
        b"id: !!set {a, b}",
        b"id: " + b"9" * 5_000,
        b"limits: {max_attempts: " + b"9" * 5_000 + b"}",
        b"limits: {lease: .inf}",
        b"limits: {lease: .nan}",
        b"limits: {max_pending_bytes: 1e400}",
        b"1: 2\n3: 4",
        b"~: ~",
        b"\tid: t",
        b"id: t\nid: t",
        b"--- {}\n--- {}",
        good.replace(b'"t"', b'"' + b"t" * 1_000_000 + b'"', 1),
        good.replace(b'"5s"', b'"' + b"5s" * 100_000 + b'x"'),
        good[:-1],
        good + good,
    ]


def fuzzed_documents(seed: int, count: int) -> Iterator[bytes]:
    """Hostile tasks as YAML or JSON, of which some are cut or have other bytes in them."""
    chance = random.Random(seed)
    for task in fuzzed_tasks(seed, count):
        if isinstance(task, dict):
            task["id"] = f"f{chance.randrange(10**9)}"
        document = json.dumps(task).encode()
        kind = chance.choice(["whole", "whole", "cut", "flipped"])
        if kind == "cut":
            document = document[: chance.randrange(len(document))]
        elif kind == "flipped":
            data = bytearray(document)
            for _ in range(chance.randint(1, 4)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            document = bytes(data)
        yield document
