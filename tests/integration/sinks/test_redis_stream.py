"""The redis_stream sink against a real server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from redis.asyncio import Redis

from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import RedisServer
from sinfer.errors import SinkUnavailableError
from sinfer.sinks import RedisStreamSink
from sinfer.sinks.redis_stream.writer import marker_key
from tests.integration.sinks.stalling import stalled
from tests.support.window_results import current, message_results, window_results


def redis_sink(url: str, stream: str, **settings: Any) -> RedisStreamSink:
    return RedisStreamSink(RedisStreamSink.Config(url=url, stream=stream, **settings))


async def test_an_entry_is_the_result_and_says_where_it_comes_from(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique)
    await sink.write(window_results([{"y": "ü"}], revision=1))
    await sink.aclose()
    found: Any = await redis.xrange(unique)
    assert [entry for _, entry in found] == [
        {
            b"id": b"ex_1/in.w1/all/0/1/0",
            b"product": b"example",
            b"task": b"ex_1",
            b"window": b"ex_1/in.w1/all/0/1",
            b"revision": b"1",
            b"data": '{"y":"ü"}'.encode(),
        }
    ]


async def test_a_write_cut_short_is_completed_by_the_next(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique)
    await sink.write(window_results([0, 1, 2]))
    await sink.write(window_results([0, 1, 2, 3, 4]))
    await sink.aclose()
    found: Any = await redis.xrange(unique)
    assert [entry[b"data"] for _, entry in found] == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_marker_lives_as_long_as_configured(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    window = window_results(1)
    sink = redis_sink(redis_server.url, unique, remember="10m")
    await sink.write(window)
    await sink.aclose()
    assert 590_000 < await redis.pttl(f"{marker_key(unique, window.window_id)}:0") <= 600_000


async def test_what_is_known_of_messages_lives_as_long_as_configured_and_is_small(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique, remember="10m")
    for first in range(0, 16_000, 500):
        await sink.write(message_results(*range(first, first + 500)))
    await sink.aclose()
    bitmaps = [key async for key in redis.scan_iter(f"{{{unique}}}:written:*")]
    assert len(bitmaps) == 2
    for name in bitmaps:
        assert 590_000 < await redis.pttl(name) <= 600_000
        assert await redis.strlen(name) <= 1024


async def test_a_stream_is_kept_at_its_length(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique, maxlen=100)
    for i in range(20):
        await sink.write(window_results(100, base_id=f"w{i}"))
    await sink.aclose()
    assert 100 <= await redis.xlen(unique) < 400


async def test_while_the_key_is_of_another_type_results_wait(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    await redis.set(unique, "text")
    sink = redis_sink(redis_server.url, unique)
    with pytest.raises(SinkUnavailableError, match=f"stream '{unique}'.*WRONGTYPE"):
        await sink.write(window_results(1))
    await redis.delete(unique)
    await sink.write(window_results(1))
    await sink.aclose()
    assert await redis.xlen(unique) == 1


@pytest.mark.parametrize(
    "rules",
    [
        ("resetpass", ">other"),
        ("off",),
        ("-evalsha", "-eval"),
        ("-xadd",),
        ("resetkeys", "~nothing"),
        ("-setbit",),
    ],
)
async def test_whoever_may_not_write_waits_until_it_may(
    unique: str, rules: tuple[str, ...]
) -> None:
    """A password that was changed, a command or key that is closed, within scripts as well."""
    with RedisServer() as server:
        async with Redis.from_url(server.url) as admin:
            granted = ("on", ">right", "~*", "&*", "+@all")
            set_rules: Any = admin.execute_command
            await set_rules("ACL", "SETUSER", "writer", *granted)
            url = server.url.replace("//", "//writer:right@")
            sink = redis_sink(url, unique)
            await sink.write(window_results(2, base_id="first"))
            await set_rules("ACL", "SETUSER", "writer", *rules)
            await sink._writer._redis.connection_pool.disconnect()
            for _ in range(2):
                with pytest.raises(SinkUnavailableError, match=unique):
                    await sink.write(window_results(2))
            await set_rules("ACL", "SETUSER", "writer", *granted)
            await sink.write(window_results(2))
            entries: Any = await admin.xrange(unique)
            assert len({fields[b"id"] for _, fields in entries}) == 4
            await sink.aclose()


async def test_a_full_server_takes_the_results_once_there_is_room(unique: str) -> None:
    with RedisServer() as server:
        async with Redis.from_url(server.url) as client:
            sink = redis_sink(server.url, unique)
            await sink.write(window_results(1, base_id="first"))
            await client.config_set("maxmemory", "1")
            with pytest.raises(SinkUnavailableError, match=unique):
                await sink.write(window_results(1))
            await client.config_set("maxmemory", "100mb")
            await sink.write(window_results(1))
            assert await client.xlen(unique) == 2
            await sink.aclose()


async def test_a_server_that_restarted_without_its_scripts_is_written_to(unique: str) -> None:
    with RedisServer(config={"appendfsync": "always"}) as server:
        sink = redis_sink(server.url, unique)
        await sink.write(window_results(2))
        await asyncio.to_thread(server.restart)
        await sink.write(window_results(2))
        await sink.write(window_results(2, base_id="next"))
        await sink.aclose()
        async with Redis.from_url(server.url) as client:
            assert await client.xlen(unique) == 4


async def test_a_stalled_server_ends_the_write_and_the_next_write_repeats_nothing(
    unique: str,
) -> None:
    with RedisServer() as server:
        sink = redis_sink(server.url, unique, timeout="300ms")
        await sink.write(window_results(1))
        with stalled(server), pytest.raises(SinkUnavailableError):
            await sink.write(window_results(5, base_id="next"))
        await sink.write(window_results(5, base_id="next"))
        await sink.aclose()
        async with Redis.from_url(server.url) as client:
            assert await client.xlen(unique) == 6


async def test_a_server_that_is_away_is_reported_without_its_password() -> None:
    sink = redis_sink(f"redis://:s3cret@127.0.0.1:{free_port()}", "results", timeout="1s")
    with pytest.raises(SinkUnavailableError, match="stream 'results'") as caught:
        await sink.write(window_results(1))
    await sink.aclose()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("stream", ["results", "{results}:out", "a{b}c{d}"])
def test_stream_and_markers_are_in_one_hash_slot(stream: str) -> None:
    from redis.crc import key_slot

    marker = marker_key(stream, "ex_1/in.w1/{other}/0")
    assert key_slot(marker.encode()) == key_slot(stream.encode())


async def test_a_redriven_result_finds_its_place_among_those_that_are_there(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique)
    window = current(window_results([0, 1, 3, 4], ordinals=[0, 1, 3, 4]))
    redriven = replace(current(window_results([2], ordinals=[2])), is_again=True)
    for results in (window, redriven, redriven, window):
        await sink.write(results)
    await sink.aclose()
    found: Any = await redis.xrange(unique)
    assert [entry[b"data"] for _, entry in found] == [b"0", b"1", b"3", b"4", b"2"]


async def test_a_window_that_is_run_again_appends_under_the_same_ids_once_for_each_run(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique)
    window = current(window_results(["old"]))
    runs = [
        replace(current(window_results(["new"])), is_again=True, run=run) for run in ("r1", "r2")
    ]
    for results in (window, runs[0], runs[0], runs[1], window):
        await sink.write(results)
    await sink.aclose()
    found: Any = await redis.xrange(unique)
    assert [(entry[b"id"], entry[b"data"]) for _, entry in found] == [
        (b"example~inc/ex_1/in.w1/all/0/0/0@s", data) for data in (b'"old"', b'"new"', b'"new"')
    ]


async def test_a_run_of_a_revision_that_was_overtaken_appends_nothing(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique)
    await sink.write(current(window_results([1], revision=1)))
    await sink.write(replace(current(window_results([0])), is_again=True, run="r1"))
    await sink.aclose()
    assert await redis.xlen(unique) == 1


async def test_sinks_products_and_incarnations_share_a_stream(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    sink = redis_sink(redis_server.url, unique)
    window = window_results(20)
    for results in (
        current(window),
        current(window, sink="other"),
        current(window, incarnation="inc.1"),
        current(replace(window, product="another")),
    ):
        await sink.write(results)
        await sink.write(results)
    await sink.aclose()
    assert await redis.xlen(unique) == 80


async def test_what_an_earlier_version_wrote_of_a_window_is_not_appended_again(
    redis_server: RedisServer, redis: Redis, unique: str
) -> None:
    await redis.set(marker_key(unique, "ex_1/in.w1/all/0"), "0:2")
    sink = redis_sink(redis_server.url, unique)
    await sink.write(window_results([0, 1, 2, 3, 4]))
    await sink.write(window_results([0, 1, 2, 3, 4]))
    found: Any = await redis.xrange(unique)
    assert [entry[b"data"] for _, entry in found] == [b"3", b"4"]
    await sink.write(replace(window_results([1], ordinals=[1]), is_again=True))
    await sink.aclose()
    found = await redis.xrange(unique)
    assert [entry[b"data"] for _, entry in found] == [b"3", b"4", b"1"]
