"""What workers take from the broker: whoever can write there can write anything.

Celery and kombu trust what they read. A body that is no triple, a time limit that is no pair or a
message without properties ends the worker, which puts the message back, so that it ends the next
one as well; a compressed body may unpack to any size. So of each message only what sinfer's own
have is kept: the name of a task, an id, when it expires, and keyword arguments. The rest is as
sinfer writes it.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

import msgspec

from sinfer.errors import InvalidItemError

_LONGEST = 64 * 1024
"""Bytes of a body; a hint has a few hundred."""

_SHOWN = 200

_EMBEDDED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]


class _Headers(msgspec.Struct):
    task: Literal["sinfer.process", "sinfer.tick"]
    id: _Name
    expires: datetime | None = None


class _Properties(msgspec.Struct):
    body_encoding: Literal["base64"] | None = None


class _Message(msgspec.Struct, rename="kebab"):
    body: Annotated[str, msgspec.Meta(max_length=2 * _LONGEST)]
    headers: _Headers
    content_type: Literal["application/json"]
    properties: dict[str, Any]


def as_ours(message: Any, queue: str) -> dict[str, Any]:
    """A message of a queue of sinfer's, as sinfer writes it.

    Raises:
        InvalidItemError: it is none.
    """
    try:
        found = msgspec.convert(message, _Message)
        encoded = msgspec.convert(found.properties, _Properties).body_encoding == "base64"
        body = b64decode(found.body) if encoded else found.body.encode()
        if len(body) > _LONGEST:
            raise ValueError(f"its body has {len(body)} bytes")
        _, arguments, _ = msgspec.json.decode(body, type=tuple[list[Any], dict[str, Any], Any])
        task, id, expires = found.headers.task, found.headers.id, found.headers.expires
        again = json.dumps([[], arguments, _EMBEDDED]).encode()
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise InvalidItemError(str(error)[:_SHOWN]) from None
    return {
        "body": b64encode(again).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": id,
            "root_id": id,
            "parent_id": None,
            "group": None,
            "shadow": None,
            "eta": None,
            "expires": None if expires is None else expires.isoformat(),
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": "()",
            "kwargsrepr": repr(arguments),
            "origin": "",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid4()),
        },
    }
