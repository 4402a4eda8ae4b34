"""The results of a run as they stand in JetStream: when they came, and whether all are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client

from benchmarks.harness.streams import subject
from sinfer.demo.demo_streams import CLOSED_HEADER
from sinfer.demo.verify import SinkCheck, check_sink
from sinfer.encoding import from_json
from sinfer.source.attachment import Attachment
from sinfer.source.config import JetStreamSource
from sinfer.source.source_partition import SourcePartition
from sinfer.types.message import Message

_BATCH = 2_000
_QUIET_S = 0.2


@dataclass(frozen=True, slots=True)
class Found:
    """What a stream of results holds.

    Attributes:
        check: whether there is exactly one correct result for each message.
        first_closed_s: when the first window closed, seconds since the epoch.
        last_stored_s: when JetStream stored the last result, seconds since the epoch.
        stored_ns: when it stored each result, by id, nanoseconds since the epoch.
    """

    check: SinkCheck
    first_closed_s: float
    last_stored_s: float
    stored_ns: Mapping[int, int]

    @property
    def elapsed_s(self) -> float:
        """From the first window's closing to the last result."""
        return self.last_stored_s - self.first_closed_s


async def read_results(client: Client, stream: str, expected: Sequence[Mapping[str, Any]]) -> Found:
    """Read a stream of results to its end and compare it with what it should hold."""
    results: list[Mapping[str, Any]] = []
    stored_ns: dict[int, int] = {}
    first_closed_ms = float("inf")
    for message in await read(client, stream):
        results.append(from_json(message.data))
        first_closed_ms = min(first_closed_ms, float((message.headers or {})[CLOSED_HEADER]))
        stored_ns[results[-1]["id"]] = message.timestamp_ns
    by_id = {result["id"]: result for result in expected}
    check = check_sink(stream, by_id, results, lambda result: result["id"])
    last_stored_ns = max(stored_ns.values(), default=0)
    return Found(check, first_closed_ms / 1000, last_stored_ns / 1e9, stored_ns)


async def read(client: Client, stream: str) -> list[Message]:
    """All that a stream holds."""
    source = JetStreamSource(stream=stream, batch=_BATCH)
    reader = await Attachment.open(
        client, SourcePartition(source, subject(stream), f"results-{stream}")
    )
    found: list[Message] = []
    try:
        while not await reader.source.caught_up():
            batch = await reader.next_batch(_BATCH, _QUIET_S)
            found += batch.messages if batch is not None else ()
    finally:
        await reader.aclose()
    return found
