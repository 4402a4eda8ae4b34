"""What holds for every sink that keeps what it is given."""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import nats
import psutil
import pytest
from redis.asyncio import Redis
from sqlalchemy import MetaData, Table, create_engine, select

from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.sinks import Sink
from sinfer.sinks.sql.columns import base_columns
from sinfer.types.result import WindowResults
from tests.integration.sinks.receiver import Receiver
from tests.support.until import until
from tests.support.window_results import message_results, window_results

PARTITION = message_results().base_id

Written = list[tuple[str, Any]]
"""Idempotency key and data of each result, as a reader sees them who does as documented."""


class Place(ABC):
    """Somewhere that a sink writes to."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """The configuration of a sink that writes there."""

    @abstractmethod
    async def read(self) -> Written:
        """What is there now."""

    async def prepare(self) -> None:
        """Make what the sink needs to find; nothing by default."""
        return

    def sink(self) -> Sink:
        config = Sink.validator()(self.settings())
        made: Sink = Sink.class_for(config)(config)
        return made


class StreamPlace(Place):
    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    def settings(self) -> dict[str, Any]:
        return {"type": "jetstream", "servers": [self._url], "subject": f"{self._name}.out"}

    async def prepare(self) -> None:
        client = await nats.connect(self._url)
        await client.jetstream().add_stream(name=self._name, subjects=[f"{self._name}.>"])
        await client.close()

    async def read(self) -> Written:
        client = await nats.connect(self._url)
        jetstream = client.jetstream()
        count = (await jetstream.stream_info(self._name)).state.messages
        messages = [await jetstream.get_msg(self._name, seq=i + 1) for i in range(count)]
        await client.close()
        return [
            (str((m.headers or {})["Nats-Msg-Id"]), json.loads(m.data or b"")) for m in messages
        ]


class SqlPlace(Place):
    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    def settings(self) -> dict[str, Any]:
        return {"type": "sql", "url": self._url, "table": self._name}

    async def read(self) -> Written:
        return await asyncio.to_thread(self._read)

    def _read(self) -> Written:
        engine = create_engine(self._url)
        is_decoded = engine.dialect.name != "sqlite"
        with engine.connect() as connection:
            rows = connection.execute(select(Table(self._name, MetaData(), *base_columns()))).all()
            written = [
                # What is in JSON columns is decoded already.
                (
                    f"{row.base_id if row.base_id == PARTITION else row.window_id}/{row.ordinal}",
                    row.result if is_decoded else json.loads(row.result),
                )
                for row in rows
            ]
        engine.dispose()
        return written


class RedisPlace(Place):
    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    def settings(self) -> dict[str, Any]:
        return {"type": "redis_stream", "url": self._url, "stream": self._name}

    async def read(self) -> Written:
        async with Redis.from_url(self._url, decode_responses=True) as client:
            found: Any = await client.xrange(self._name)
        entries: list[tuple[str, dict[str, str]]] = found
        newest: dict[str, int] = {}
        for _, entry in entries:
            base = entry["window"].rpartition("/")[0]
            newest[base] = max(newest.get(base, 0), int(entry["revision"]))
        return [
            (entry["id"], json.loads(entry["data"]))
            for _, entry in entries
            if int(entry["revision"]) == newest[entry["window"].rpartition("/")[0]]
        ]


class HttpPlace(Place):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def settings(self) -> dict[str, Any]:
        return {"type": "http", "url": self._receiver.url}

    async def read(self) -> Written:
        by_key: dict[str, bytes] = {}
        for post in self._receiver.posts:
            key = post.headers["idempotency-key"]
            assert by_key.setdefault(key, post.body) == post.body
        results = [row for body in by_key.values() for row in json.loads(body)["results"]]
        return list({row["id"]: row["data"] for row in results}.items())


class JsonlPlace(Place):
    def __init__(self, path: Path) -> None:
        self._path = path

    def settings(self) -> dict[str, Any]:
        return {"type": "jsonl", "path": str(self._path)}

    async def read(self) -> Written:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        rows = [json.loads(line) for line in lines]
        return list({row["idempotency_key"]: row["result"] for row in rows}.items())


ALL = [
    "jetstream", "sqlite", "postgresql", "pgbouncer", "mariadb", "redis_stream", "http", "jsonl"
]  # fmt: skip


@pytest.fixture
async def place(request: pytest.FixtureRequest, unique: str, tmp_path: Path) -> Place:
    kind: str = request.param
    made: Place
    if kind == "jetstream":
        nats_server: NatsServer = request.getfixturevalue("nats_server")
        made = StreamPlace(nats_server.url, unique)
    elif kind == "redis_stream":
        redis_server: RedisServer = request.getfixturevalue("redis_server")
        made = RedisPlace(redis_server.url, unique)
    elif kind == "http":
        made = HttpPlace(request.getfixturevalue("receiver"))
    elif kind == "jsonl":
        made = JsonlPlace(tmp_path / "results.jsonl")
    elif kind == "sqlite":
        made = SqlPlace(f"sqlite:///{tmp_path / 'results.db'}", unique)
    else:
        made = SqlPlace(request.getfixturevalue(f"{kind}_url"), unique)
    await made.prepare()
    return made


def expected(*windows: WindowResults) -> Written:
    return sorted(
        ((w.idempotency_key(row), json.loads(row.data)) for w in windows for row in w),
        key=lambda pair: pair[0],
    )


async def written(place: Place) -> Written:
    return sorted(await place.read(), key=lambda pair: pair[0])


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_a_window_written_again_is_there_once(place: Place) -> None:
    window = window_results(5)
    sink = place.sink()
    await sink.write(window)
    await sink.write(window)
    await sink.aclose()
    assert await written(place) == expected(window)


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_a_window_written_again_by_another_process_is_there_once(place: Place) -> None:
    window = window_results(["text", 1.5, None, [1, {"a": "ü\n"}]])
    for _ in range(2):
        sink = place.sink()
        await sink.write(window)
        await sink.aclose()
    assert await written(place) == expected(window)


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_a_result_known_by_its_message_is_there_once_whatever_windows_it_comes_in(
    place: Place,
) -> None:
    sequences = [1, 2, 8191, 8192, 20_000, 2**31 + 5, 2**31 + 6, 2**40, 2**53]
    first, last = message_results(*sequences[:5], window="w/1"), message_results(*sequences)
    sinks = [place.sink(), place.sink()]
    await sinks[0].write(first)
    # Cut again after Redis was wiped: other windows, tried for the first time, at once.
    again = [
        message_results(*sequences[1:3], window="w/3"),
        message_results(*sequences[2:8:2], window="w/4"),
    ]
    await asyncio.gather(*(sinks[n % 2].write(window) for n, window in enumerate([*again, last])))
    for sink in sinks:
        await sink.aclose()
    assert await written(place) == expected(last)


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_windows_written_at_once_do_not_mix(place: Place) -> None:
    windows = [window_results(7, base_id=f"ex_1/in.w1/k%2F{i}/0", key=f"k/{i}") for i in range(40)]
    sink = place.sink()
    await asyncio.gather(*(sink.write(window) for window in windows))
    await sink.aclose()
    assert await written(place) == expected(*windows)


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_a_large_window_is_written_whole(place: Place) -> None:
    window = window_results(list(range(2_000)))
    sink = place.sink()
    await sink.write(window)
    await sink.aclose()
    assert await written(place) == expected(window)


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_a_window_without_results_writes_nothing(place: Place) -> None:
    sink = place.sink()
    await sink.write(window_results(1))
    await sink.write(window_results(0, base_id="ex_1/in.w1/all/9"))
    await sink.aclose()
    assert await written(place) == expected(window_results(1))


@pytest.mark.parametrize(
    "place", ["sqlite", "postgresql", "pgbouncer", "mariadb", "redis_stream"], indirect=True
)
async def test_a_higher_revision_replaces_and_a_lower_does_not(place: Place) -> None:
    first, second = window_results(3), window_results(5, revision=1)
    sink = place.sink()
    await sink.write(first)
    await sink.write(second)
    assert await written(place) == expected(second)
    await sink.write(first)
    await sink.aclose()
    assert await written(place) == expected(second)


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_closing_leaves_no_task_and_no_open_file_or_socket(place: Place) -> None:
    async def use() -> None:
        sink = place.sink()
        await sink.write(window_results(3))
        await sink.aclose()

    process = psutil.Process()
    await use()
    descriptors = process.num_fds()
    await use()
    await until(
        lambda: len(asyncio.all_tasks()) == 1 and process.num_fds() <= descriptors,
        lambda: f"the end of {asyncio.all_tasks()}",
        timeout_s=5,
    )


@pytest.mark.parametrize("place", ALL, indirect=True)
async def test_a_sink_that_never_wrote_can_be_closed(place: Place) -> None:
    await place.sink().aclose()
