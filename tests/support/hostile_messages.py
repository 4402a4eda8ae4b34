"""Celery messages as someone writes them who may write to the broker and means harm."""

from __future__ import annotations

import json
import pickle
import zlib
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (self._path.touch, ())


def message(
    arguments: Any = None,
    *,
    body: bytes | None = None,
    embedded: Any = None,
    content_type: str = "application/json",
    headers: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A message as Celery writes it, but for what is given."""
    id = str(uuid4())
    if body is None:
        body = json.dumps([[], arguments, embedded or {}]).encode()
    return {
        "body": b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {
            "lang": "py", "task": "sinfer.process", "id": id, "root_id": id, "parent_id": None,
            "group": None, "retries": 0, "eta": None, "expires": None, "timelimit": [None, None],
            "argsrepr": "()", "kwargsrepr": "{}", "origin": "x", **(headers or {}),
        },
        "properties": {
            "correlation_id": id, "reply_to": "x", "delivery_mode": 2, "priority": 0,
            "delivery_info": {"exchange": "", "routing_key": "x"}, "body_encoding": "base64",
            "delivery_tag": str(uuid4()), **(properties or {}),
        },
    }  # fmt: skip


def unreadable() -> Iterator[str]:
    """What is no message at all."""
    yield from ("", "5", "[]", "{}", "null", '"x"', "{", "[" * 100_000, '{"body": 5}', "\x00")
    yield '{"body": "eA==", "properties": {}}'
    yield '{"body": "x", "headers": 5, "properties": 5}'
    yield '{"__type__": "datetime", "__value__": 5}'


def refused(canary: Path) -> Iterator[dict[str, Any]]:
    """Messages that say nothing that sinfer says.

    Args:
        canary: a file that is there if one of them was unpickled.
    """
    hint = {"product": "counting", "task": "t", "partition": "p", "windows": 1}
    for body in (b"[]", b"{}", b"\xff", b"[" * 100_000, b"[[],[],{}]", b"[[],{}]", b"5", b""):
        yield message(body=body)
    pickled = pickle.dumps(Touch(canary))
    yield message(body=pickled, content_type="application/x-python-serialize")
    yield message(body=b"!!python/object/apply:os.abort []", content_type="application/x-yaml")
    bomb = zlib.compress(b" " * 200_000_000)
    yield message(body=bomb, headers={"compression": "gzip"})
    yield message({**hint, "task": "x" * 1_000_000})
    for name in ("no.such", "os.abort", "celery.map", "celery.chord_unlock", "", None, ["a"]):
        yield message(hint, headers={"task": name})
    for id in (None, 5, ["a"], "", "x" * 1_000_000):
        yield message(hint, headers={"id": id})
    expires: Any
    for expires in ("garbage", [1], {}, 10**300):
        yield message(hint, headers={"expires": expires})
    yield message(hint, properties={"body_encoding": "rot13"})


def harmless(hint: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Messages with a good hint, of which all else is of no account."""
    for limit in ([0.001, 0.001], 5, "x", [1e300, None]):
        yield message(hint, headers={"timelimit": limit})
    for eta in ("garbage", "2999-01-01T00:00:00", 5):
        yield message(hint, headers={"eta": eta})
    yield message(hint, headers={"retries": "x", "group": {"a": 1}, "stamps": 5, "shadow": 5})
    for part in (5, [5], {"task": "os.abort"}):
        yield message(hint, embedded={"chain": part, "chord": part, "errbacks": part})
    for properties in ({"delivery_tag": None}, {"delivery_info": 5}, {"priority": "x"}):
        yield message(hint, properties=properties)


def wrong_hints(hint: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Messages whose arguments are no hint."""
    yield message({})
    for name in hint:
        value: Any
        for value in (None, [], {}, 1.5, True, -1, "", "x" * 5000, 10**300, [[]] * 100):
            yield message({**hint, name: value})
