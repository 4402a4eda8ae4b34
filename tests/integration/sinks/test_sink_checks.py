"""`sinfer check` asks servers whether sinks could write; nothing is written and nobody told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig
from redis.asyncio import Redis

from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.sinks import HttpSink, JetStreamSink, RedisStreamSink
from sinfer.sinks.base import Sink
from sinfer.sinks.jsonl import JsonlSink
from sinfer.types.check import Checked
from tests.integration.sinks.receiver import Receiver
from tests.support.secured import acl_server, as_user

USERS = """
authorization { users: [
  {user: all, password: x}
  {user: denied, password: x, permissions: {publish: {deny: "out.>"}}}
  {user: listed, password: x, permissions: {
    publish: ["$SYS.REQ.USER.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.INFO.OUT", "other.>"]
  }}
  {user: publisher, password: x, permissions: {publish: ["out.>"]}}
  {user: deaf, password: x, permissions: {subscribe: {deny: "_INBOX.>"}}}
] }
"""


async def checked(kind: type[Sink], **settings: Any) -> Checked:
    sink = kind(kind.Config(**settings))
    try:
        [found] = await sink.check()
    finally:
        await sink.aclose()
    return found


def content_of(directory: Path) -> list[Path]:
    return list(directory.iterdir())


# --- JetStream ---


@pytest.fixture(scope="module")
def guarded() -> Iterator[NatsServer]:
    with NatsServer(config=USERS) as server:
        yield server


@pytest.fixture
async def connected(guarded: NatsServer) -> Any:
    client = await nats.connect(*as_user(guarded, "all"))
    await client.jetstream().add_stream(StreamConfig(name="OUT", subjects=["out.>"]))
    yield client
    await client.jetstream().delete_stream("OUT")
    await client.close()


@pytest.mark.parametrize(
    ("user", "verdict", "words"),
    [
        ("all", "ok", "stream 'OUT' stores 'out.x'"),
        ("denied", "error", "may not publish to 'out.x'; allow it"),
        ("listed", "error", "may not publish to 'out.x'; allow it"),
        ("publisher", "warning", "$js.api.stream.names"),
        ("deaf", "error", "may not subscribe to _INBOX.>"),
    ],
)
async def test_the_right_to_publish_is_looked_at_and_nothing_is_published(
    guarded: NatsServer, connected: Client, user: str, verdict: str, words: str
) -> None:
    heard = await connected.subscribe(">")
    await connected.flush()
    servers = as_user(guarded, user)
    found = await checked(JetStreamSink, servers=servers, subject="out.x", timeout="1s")
    assert found.verdict == verdict
    assert words in found.text
    assert (await connected.jetstream().stream_info("OUT")).state.messages == 0
    while heard.pending_msgs:
        message = await heard.next_msg()
        assert not message.subject.startswith("out.")
    await heard.unsubscribe()


@pytest.mark.parametrize(
    ("settings", "verdict", "field", "words"),
    [
        ({"subject": "nowhere"}, "error", "subject", "no stream covers subject 'nowhere'"),
        ({"subject": "out.x", "stream": "IN"}, "error", "stream", "covered by stream 'OUT'"),
    ],
    ids=["no stream", "another stream"],
)
async def test_the_stream_of_a_subject_is_looked_for(
    guarded: NatsServer,
    connected: Client,
    settings: dict[str, str],
    verdict: str,
    field: str,
    words: str,
) -> None:
    found = await checked(JetStreamSink, servers=as_user(guarded, "all"), **settings)
    assert (found.verdict, found.field) == (verdict, field)
    assert words in found.text
    assert len(await connected.jetstream().streams_info()) == 1


async def test_a_stream_that_forgets_copies_soon_is_told(
    guarded: NatsServer, connected: Client
) -> None:
    await connected.jetstream().update_stream(
        StreamConfig(name="OUT", subjects=["out.>"], duplicate_window=10)
    )
    found = await checked(JetStreamSink, servers=as_user(guarded, "all"), subject="out.x")
    assert found.verdict == "warning"
    assert "set its duplicate_window to 2m" in found.text


async def test_a_wrong_password_of_nats_is_told(guarded: NatsServer) -> None:
    servers = [guarded.url.replace("//", "//all:wrong@")]
    found = await checked(JetStreamSink, servers=servers, subject="out.x")
    assert (found.verdict, found.field) == ("error", "servers")
    assert "refuses the user or token in the URL" in found.text


# --- Redis ---


@pytest.fixture(scope="module")
def acl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    users = (
        "all on >x ~* &* +@all",
        "reader on >x ~* +@read +@connection",
        "elsewhere on >x ~other:* +@all",
    )
    with acl_server(tmp_path_factory.mktemp("acl"), *users) as server:
        yield server


@pytest.mark.parametrize(
    ("user", "verdict", "words"),
    [
        ("all:x", "ok", "is made by the first result"),
        ("reader:x", "error", "this user may not XADD, SETBIT, SET, PEXPIRE, SCRIPT, EVALSHA"),
        ("elsewhere:x", "error", "this user may not XADD"),
        ("all:wrong", "error", "refuses the user or password"),
    ],
)
async def test_the_right_to_append_is_looked_at_and_nothing_is_appended(
    acl: RedisServer, user: str, verdict: str, words: str
) -> None:
    url = acl.url.replace("//", f"//{user}@")
    found = await checked(RedisStreamSink, url=url, stream="results")
    assert found.verdict == verdict
    assert words in found.text
    assert "wrong" not in found.text.replace("wrong number", "")
    redis = Redis.from_url(acl.url.replace("//", "//all:x@"))
    assert await redis.keys("*") == []
    await redis.aclose()


async def test_a_key_that_is_no_stream_is_told(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    await redis.set(unique, "text")
    found = await checked(RedisStreamSink, url=redis_server.url, stream=unique)
    assert (found.verdict, found.field) == ("error", "stream")
    assert f"key '{unique}' is a string and no stream" in found.text
    await redis.delete(unique)
    await redis.xadd(unique, {"id": "1"})
    assert (await checked(RedisStreamSink, url=redis_server.url, stream=unique)).verdict == "ok"
    assert await redis.xlen(unique) == 1


async def test_a_full_redis_is_told() -> None:
    with RedisServer(config={"maxmemory": "1"}) as server:
        found = await checked(RedisStreamSink, url=server.url, stream="s")
    assert found.verdict == "unreachable"
    assert "is full and takes nothing" in found.text


@pytest.mark.parametrize(
    ("host", "words"),
    [("127.0.0.1:1", "refuses connections"), ("no.such.host.invalid", "cannot be resolved")],
)
async def test_a_redis_that_is_not_there_is_told(host: str, words: str) -> None:
    found = await checked(RedisStreamSink, url=f"redis://{host}/0", stream="s", timeout="1s")
    assert (found.verdict, found.field, found.is_silent) == ("unreachable", "url", True)
    assert words in found.text


# --- HTTP ---


@pytest.mark.parametrize(
    ("status", "verdict", "words"),
    [
        (200, "ok", "nothing was sent"),
        (405, "ok", "nothing was sent"),
        (501, "ok", "nothing was sent"),
        (401, "warning", "may refuse the credentials"),
        (404, "warning", "may be nothing at this path"),
    ],
)
async def test_a_receiver_is_asked_without_being_sent_anything(
    receiver: Receiver, status: int, verdict: str, words: str
) -> None:
    receiver.options_status = status
    found = await checked(HttpSink, url=receiver.url)
    assert found.verdict == verdict
    assert words in found.text
    assert receiver.posts == []


async def test_a_receiver_that_hangs_costs_no_more_than_its_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        async with asyncio.timeout(10):
            found = await checked(
                HttpSink, url=f"http://127.0.0.1:{silent.getsockname()[1]}/x", timeout="500ms"
            )
    assert (found.verdict, found.is_silent) == ("unreachable", True)
    assert "does not answer in time" in found.text


# --- files ---


async def test_a_file_is_not_made_and_a_directory_is_none(tmp_path: Path) -> None:
    found = await checked(JsonlSink, path=str(tmp_path / "deep" / "{task}.jsonl"))
    assert found.verdict == "ok"
    assert content_of(tmp_path) == []
    found = await checked(JsonlSink, path=str(tmp_path))
    assert (found.verdict, found.field) == ("error", "path")
    (tmp_path / "file").touch()
    found = await checked(JsonlSink, path=str(tmp_path / "file" / "x.jsonl"))
    assert found.verdict == "error"
