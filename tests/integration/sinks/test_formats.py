"""What the reference says of results is what a reader finds, name by name."""

from __future__ import annotations

import json
import logging
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import nats
import pytest
from redis.asyncio import Redis

from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.ingest.dead_letter_retention import letter_headers
from sinfer.sinks import Sink
from sinfer.sinks.formats import DEAD_LETTER_COPY, RESULT_FORMATS
from sinfer.store.history.dead_letter_store import StoredLetter
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter, Stage
from sinfer.windows.ids import Scope
from tests.integration.sinks.receiver import Receiver
from tests.support.window_results import current, window_results

WINDOW = current(window_results(1))


async def write(**settings: Any) -> None:
    """Write a window of one result, and then write it in a rerun."""
    config = Sink.validator()(settings)
    sink: Sink = Sink.class_for(config)(config)
    await sink.write(WINDOW)
    await sink.write(replace(WINDOW, run="2", is_again=True))
    await sink.aclose()


async def test_jetstream(nats_server: NatsServer, unique: str) -> None:
    client = await nats.connect(nats_server.url)
    await client.jetstream().add_stream(name=unique, subjects=[unique])
    await write(type="jetstream", servers=[nats_server.url], subject=unique)
    headers: set[str] = set()
    for sequence in (1, 2):
        message = await client.jetstream().get_msg(unique, sequence)
        headers |= (message.headers or {}).keys()
        assert json.loads(message.data or b"") == json.loads(WINDOW.rows[0].data)
    await client.close()
    assert headers | {"payload"} == RESULT_FORMATS["jetstream"].keys()


async def test_sql(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    await write(type="sql", url=f"sqlite:///{path}", table="results")
    with closing(sqlite3.connect(path)) as database:
        cursor = database.execute("SELECT * FROM results")
        assert [name for name, *_ in cursor.description] == list(RESULT_FORMATS["sql"])


async def test_redis_stream(redis_server: RedisServer, unique: str) -> None:
    await write(type="redis_stream", url=redis_server.url, stream=unique)
    async with Redis.from_url(redis_server.url, decode_responses=True) as client:
        entries: Any = await client.xrange(unique)
    for _, entry in entries:
        assert entry.keys() == RESULT_FORMATS["redis_stream"].keys()


async def test_http(receiver: Receiver) -> None:
    await write(type="http", url=receiver.url)
    [post, *_] = receiver.posts
    body = json.loads(post.body)
    found = {"Idempotency-Key", *body} - {"results"}
    found |= {f"results[].{name}" for name in body["results"][0]}
    assert "idempotency-key" in post.headers
    assert found == RESULT_FORMATS["http"].keys()


async def test_jsonl(tmp_path: Path) -> None:
    await write(type="jsonl", path=str(tmp_path / "results.jsonl"))
    for line in (tmp_path / "results.jsonl").read_text().splitlines():
        assert list(json.loads(line)) == list(RESULT_FORMATS["jsonl"])


async def test_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "sinfer.sinks.log"):
        await write(type="log")
    key, _, data = caplog.records[0].getMessage().partition(" ")
    assert key == WINDOW.idempotency_key(WINDOW.rows[0])
    assert data.encode() == WINDOW.rows[0].data


def test_copies_of_dead_letters() -> None:
    message = Message(b"x", "in.a", {"Own": "1", "Nats-Msg-Id": "theirs"}, 7)
    letter = DeadLetter(message, "preprocess", "no JSON", 0, window="w/0/0", attempts=1)
    headers = letter_headers(StoredLetter(Scope("p", "t", "in"), "1-1", letter, 1), "name")
    assert headers.keys() - {"Own"} == DEAD_LETTER_COPY.keys() - {"payload"}
    assert headers["Own"] == "1"
    for stage in get_args(Stage):
        assert stage in DEAD_LETTER_COPY["Sinfer-Stage"]
