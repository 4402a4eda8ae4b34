"""`sinfer check` asks everything that tasks need, at once and once, and changes nothing."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, StreamConfig

from sinfer import InferTaskConfig, Product, Sink, StaticTaskManager, Window
from sinfer.embedded.servers import NatsServer
from sinfer.operations.preflight.findings import Finding
from sinfer.operations.preflight.task import Shared, TaskCheck
from tests.support.http_server import ScriptedServer
from tests.support.secured import as_user
from tests.support.task_settings import Upper, product_of, settings_of

USERS = """
authorization { users: [
  {user: all, password: x}
  {user: ingest, password: x, permissions: {
    publish: ["$JS.API.STREAM.INFO.IN", "$JS.API.CONSUMER.*.IN.>", "$JS.API.CONSUMER.MSG.NEXT.IN.>",
              "$JS.ACK.IN.>"]
    subscribe: ["_INBOX.>"]
  }}
  {user: maker, password: x, permissions: {publish: {deny: "$JS.API.CONSUMER.CREATE.>"}}}
  {user: puller, password: x, permissions: {publish: {deny: "$JS.API.CONSUMER.MSG.NEXT.>"}}}
  {user: acker, password: x, permissions: {publish: {deny: "$JS.ACK.>"}}}
  {user: asker, password: x, permissions: {publish: {deny: "$JS.API.STREAM.INFO.>"}}}
  {user: deaf, password: x, permissions: {subscribe: {deny: "_INBOX.>"}}}
] }
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[NatsServer]:
    with NatsServer(config=USERS) as server:
        yield server


@pytest.fixture
async def stream(guarded: NatsServer) -> AsyncIterator[Client]:
    """An administrator's connection to a server with the stream ``IN`` and the durable ``old``."""
    client = await nats.connect(*as_user(guarded, "all"))
    await client.jetstream().add_stream(StreamConfig(name="IN", subjects=["s.>"]))
    await client.jetstream().add_consumer(
        "IN", ConsumerConfig(durable_name="old", filter_subject="s.in")
    )
    yield client
    await client.jetstream().delete_stream("IN")
    await client.close()


async def findings(*tasks: dict[str, Any]) -> list[Finding]:
    product = product_of([])
    shared = Shared()
    checks = [TaskCheck(shared, product, InferTaskConfig.model_validate(task)) for task in tasks]
    try:
        found = await asyncio.gather(*(check.run() for check in checks))
    finally:
        await shared.connections.aclose()
    return [finding for one in found for finding in one]


def task_of(server: NatsServer, user: str = "all", **changes: Any) -> dict[str, Any]:
    source = {"stream": "IN", "subject": "s.in", "servers": as_user(server, user)}
    return settings_of("t", source=source | changes.pop("source", {}), **changes)


async def state_of(client: Client) -> tuple[Any, ...]:
    """All that a check might change on a NATS server."""
    jetstream = client.jetstream()
    streams = await jetstream.streams_info()
    consumers = await jetstream.consumers_info("IN")
    return (
        [(stream.config.name, stream.state.messages) for stream in streams],
        [(one.name, one.delivered, one.ack_floor, one.num_ack_pending) for one in consumers],
    )


@pytest.mark.parametrize(
    ("user", "source", "verdict", "words"),
    [
        ("all", {}, "ok", "without acknowledgements"),
        ("all", {"durable": "old"}, "ok", "'old'"),
        ("all", {"durable": "new"}, "ok", "made by sinfer"),
        ("all", {"ack": "done"}, "ok", "acknowledged when done"),
        ("maker", {}, "error", "may not publish to $JS.API.CONSUMER.CREATE.IN.upper-t-s-in_"),
        ("maker", {"durable": "new"}, "error", "$JS.API.CONSUMER.CREATE.IN.new.s.in"),
        ("puller", {"durable": "old"}, "error", "$JS.API.CONSUMER.MSG.NEXT.IN.old; allow it"),
        ("acker", {"durable": "old"}, "error", "may not publish to $JS.ACK.IN.old.check"),
        ("acker", {}, "ok", "without acknowledgements"),
        ("asker", {}, "error", "may not publish to $JS.API.STREAM.INFO.IN"),
        ("deaf", {}, "error", "may not subscribe to _INBOX.>"),
        ("ingest", {}, "warning", "the last message is not looked at"),
        ("all", {"stream": "OTHER"}, "error", "stream 'OTHER' does not exist"),
        ("all", {"subject": "elsewhere"}, "error", "correct source.subject"),
    ],
)
async def test_rights_to_read_are_looked_at_and_no_consumer_is_made(
    guarded: NatsServer,
    stream: Client,
    user: str,
    source: dict[str, str],
    verdict: str,
    words: str,
) -> None:
    before = await state_of(stream)
    found = await findings(task_of(guarded, user, source=source))
    told = [finding for finding in found if finding.what == "upper/t source"]
    assert any(words in finding.text and finding.verdict == verdict for finding in told), told
    others = [finding for finding in told if "has one replica" not in finding.text]
    assert verdict != "ok" or {finding.verdict for finding in others} == {"ok"}
    assert await state_of(stream) == before


async def test_a_task_whose_sink_fails_hides_no_other_task(
    guarded: NatsServer, stream: Client
) -> None:
    bad = task_of(
        guarded,
        sinks=[{"type": "log"}, {"type": "jsonl", "path": f"{__file__}/no/where"}],
        fallback={"type": "redis_stream", "url": "redis://127.0.0.1:1", "stream": "s"},
        dead_letter_subject="nowhere",
    )
    found = await findings(bad, task_of(guarded) | {"id": "well"})
    told = {finding.what: finding for finding in found}
    assert told["upper/t sink jsonl-1"].text.startswith("sinks[1].path: ")
    assert told["upper/t fallback"].text.startswith("fallback.url: redis://127.0.0.1:1 refuses")
    assert told["upper/t dead letters"].text.startswith(
        "dead_letter_subject: no stream covers subject 'nowhere'"
    )
    well = [finding for finding in found if finding.what.startswith("upper/well")]
    assert {f.verdict for f in well if "has one replica" not in f.text} == {"ok"}


async def test_what_a_power_cut_takes_of_a_stream_is_told(
    guarded: NatsServer, stream: Client
) -> None:
    found = await findings(task_of(guarded))
    [told] = [f for f in found if f.what == "upper/t source" and f.verdict == "warning"]
    assert told.text.startswith("stream IN has one replica: a power cut takes what")
    await stream.jetstream().add_stream(name="MEMORY", subjects=["memory"], storage="memory")
    source = {"stream": "MEMORY", "subject": "memory"}
    found = await findings(task_of(guarded, source=source))
    assert any("stream MEMORY is in memory" in finding.text for finding in found)


async def test_the_last_message_is_tried(guarded: NatsServer, stream: Client) -> None:
    await stream.jetstream().publish("s.in", b"text")
    found = await findings(task_of(guarded))
    told = [finding.text for finding in found if finding.what == "upper/t pipeline"]
    assert told == ["preprocess takes the last message of s.in (1)"]


class Broken(Sink):
    """A sink of a product whose check is broken."""

    type = "broken_check"

    async def write(self, results: Any) -> None:
        raise NotImplementedError

    async def check(self) -> Any:
        raise SystemExit("hostile")


async def test_a_check_of_a_product_that_is_broken_is_told(
    guarded: NatsServer, stream: Client
) -> None:
    found = await findings(task_of(guarded, sinks=[{"type": "broken_check"}]))
    [sink] = [finding for finding in found if "sink" in finding.what]
    assert sink.verdict == "error"
    assert "hostile" in sink.text


async def test_metadata_without_inputs_are_not_compared(
    guarded: NatsServer, stream: Client
) -> None:
    async with ScriptedServer().listening() as server:
        server.body = {"name": "m", "ready": True}
        inference = {"type": "v2", "url": server.url, "model": "m"}
        found = await findings(task_of(guarded, inference=inference))
    [request] = [finding for finding in found if finding.what == "upper/t request"]
    assert request == Finding(
        "upper/t request", "warning", "not compared: the model's metadata name no inputs"
    )


async def test_hundreds_of_tasks_ask_each_server_once(guarded: NatsServer, stream: Client) -> None:
    async with ScriptedServer().listening() as server:
        server.body = {"name": "m"}
        tasks = [
            task_of(
                guarded,
                inference={"type": "v2", "url": server.url, "model": f"m{number % 5}"},
                sinks=[{"type": "http", "url": f"{server.url}/{number % 3}"}],
                source={"subject": f"s.quiet{number}"},
            )
            | {"id": f"t{number}"}
            for number in range(300)
        ]
        found = await findings(*tasks)
        asked = [(request.method, request.path) for request in server.requests]
    assert {finding.verdict for finding in found} <= {"ok", "warning"}
    assert len({finding.what.split()[0] for finding in found}) == 300
    assert asked.count(("OPTIONS", "/0")) == 1
    assert asked.count(("GET", "/v2/models/m0/ready")) == 1
    assert len(asked) == 3 + 5 * 3


async def test_a_server_that_hangs_costs_seconds_however_many_tasks_ask_it(
    guarded: NatsServer, stream: Client
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1000)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        tasks = [
            task_of(
                guarded,
                inference={"type": "v2", "url": url, "model": f"m{number}", "timeout": "500ms"},
                source={"subject": f"s.quiet{number}"},
            )
            | {"id": f"t{number}"}
            for number in range(300)
        ]
        began_s = time.monotonic()
        found = await findings(*tasks)
        took_s = time.monotonic() - began_s
    silent_ones = [finding for finding in found if finding.what.endswith(" model")]
    assert len(silent_ones) == 300
    assert all("does not answer in time" in finding.text for finding in silent_ones)
    assert took_s < 300 * 0.5 / 5


class Plain(Upper):
    """Makes requests of items alone."""


class Keyed(Upper):
    """Makes requests that name the key."""

    def build_request(self, window: Window[str]) -> Any:
        return {"key": window.key, "items": list(window)}


async def sharing(guarded: NatsServer, pipeline: type[Plain], data: bytes | None) -> list[Finding]:
    """What is told of a task whose windows share calls."""
    client = await nats.connect(*as_user(guarded, "all"))
    await client.jetstream().add_stream(StreamConfig(name="IN", subjects=["s.>"]))
    try:
        if data is not None:
            await client.jetstream().publish("s.in", data)
        task = task_of(guarded, inference={"type": "python", "call": "json:dumps"})
        task["inference"]["share_calls"] = 64
        shared = Shared()
        product = Product("p", tasks=StaticTaskManager([]), pipeline=pipeline)
        found = await TaskCheck(shared, product, InferTaskConfig.model_validate(task)).run()
        await shared.connections.aclose()
    finally:
        await client.jetstream().delete_stream("IN")
        await client.close()
    return [finding for finding in found if finding.what == "p/t request"]


@pytest.mark.parametrize(
    ("pipeline", "data", "verdict", "words"),
    [
        (Plain, b"a", "ok", "of the items of several windows"),
        (Plain, None, "warning", "inference.share_calls: not tried, for want of a message"),
        (Keyed, b"a", "error", "window.key: these are items of several windows in one call"),
    ],
)
async def test_whether_windows_can_share_calls_is_found_before_they_do(
    guarded: NatsServer, pipeline: type[Plain], data: bytes | None, verdict: str, words: str
) -> None:
    [finding] = await sharing(guarded, pipeline, data)
    assert finding.verdict == verdict
    assert words in finding.text
