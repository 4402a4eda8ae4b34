"""Which sinks are sinfer's own; a product may have written all others.

They are given results that are encoded already, so that they call nothing of a product's. That is
not so with clients: what they make JSON of is what a product has put into its request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sinfer.sinks import HttpSink, JetStreamSink, JsonlSink, LogSink, RedisStreamSink, Sink, SqlSink

_WRITES: dict[type[Sink], Callable[..., Any]] = {
    sink: sink.write
    for sink in (HttpSink, JetStreamSink, JsonlSink, LogSink, RedisStreamSink, SqlSink)
}


def writes_as_ours(sink: Sink) -> bool:
    """Whether it writes as sinfer's own sinks do. A subclass of one is none: what it inherits may
    call what it has changed."""
    write = _WRITES.get(type(sink))
    return write is not None and getattr(sink.write, "__func__", None) is write
