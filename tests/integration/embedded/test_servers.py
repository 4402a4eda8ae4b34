"""The embedded servers start, keep their data over kill -9, and leave nothing behind."""

from __future__ import annotations

import asyncio

import nats
from redis import Redis

from sinfer.embedded.child_process import is_listening
from sinfer.embedded.servers import NatsServer, RedisServer


def test_redis_keeps_what_it_synced_over_a_kill_and_leaves_no_directory() -> None:
    with RedisServer(config={"appendfsync": "always"}) as server:
        with Redis.from_url(server.url) as client:
            client.set("a", "1")
        server.restart()
        with Redis.from_url(server.url) as client:
            assert client.get("a") == b"1"
    assert not server.directory.exists()
    assert not is_listening(server.port)


def test_nats_has_jetstream_and_keeps_a_stream_over_a_kill() -> None:
    async def sequences() -> int:
        client = await nats.connect(server.url)
        jetstream = client.jetstream()
        await jetstream.add_stream(name="S", subjects=["s"])
        sequence = (await jetstream.publish("s", b"x")).seq
        await client.close()
        return sequence

    with NatsServer() as server:
        assert asyncio.run(sequences()) == 1
        server.restart()
        assert asyncio.run(sequences()) == 2
    assert not server.directory.exists()
