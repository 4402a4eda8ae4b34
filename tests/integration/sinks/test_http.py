"""The http sink against a real server."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from email.utils import formatdate
from typing import Any

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.errors import SinkError, SinkRejectedError, SinkUnavailableError
from sinfer.sinks import HttpSink
from tests.integration.sinks.receiver import Receiver
from tests.support.window_results import current, window_results


def http_sink(url: str, **settings: Any) -> HttpSink:
    return HttpSink(HttpSink.Config(url=url, **settings))


async def test_a_post_is_the_window_with_its_idempotency_key(receiver: Receiver) -> None:
    sink = http_sink(receiver.url, headers={"Authorization": "Bearer s3cret"})
    await sink.write(window_results([{"y": 1}, None], ordinals=[0, 2], revision=1))
    await sink.aclose()
    [post] = receiver.posts
    assert json.loads(post.body) == {
        "task": "ex_1",
        "window": "ex_1/in.w1/all/0/1",
        "revision": 1,
        "key": "all",
        "start_ms": 1_700_000_000_000,
        "end_ms": 1_700_000_005_000,
        "results": [
            {"id": "ex_1/in.w1/all/0/1/0", "ordinal": 0, "data": {"y": 1}},
            {"id": "ex_1/in.w1/all/0/1/2", "ordinal": 2, "data": None},
        ],
    }
    assert post.headers["idempotency-key"] == "ex_1/in.w1/all/0/1"
    assert post.headers["authorization"] == "Bearer s3cret"
    assert post.headers["content-type"] == "application/json"


async def test_another_attempt_sends_the_same_bytes(receiver: Receiver) -> None:
    receiver.answers.append((503, b""))
    sink = http_sink(receiver.url)
    with pytest.raises(SinkUnavailableError):
        await sink.write(window_results(3, attempt=1))
    await sink.write(window_results(3, attempt=2))
    await sink.aclose()
    first, second = receiver.posts
    assert first.body == second.body
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, SinkUnavailableError) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, SinkRejectedError) for status in (400, 409, 413, 418, 422, 424)),
    ],
)
async def test_a_status_decides_whether_the_window_is_written_again(
    receiver: Receiver, status: int, kind: type[SinkError]
) -> None:
    receiver.answers.append((status, b"because of s3cret"))
    sink = http_sink(receiver.url, headers={"X-Token": "s3cret"})
    with pytest.raises(kind) as caught:
        await sink.write(window_results(1))
    await sink.aclose()
    assert str(caught.value).endswith(f"answered {status} because of ***")


@pytest.mark.parametrize("status", [301, 307, 401, 402, 403, 404, 405, 407, 410, 415, 431, 451])
async def test_credentials_and_places_that_are_refused_are_an_outage_with_its_remedy(
    receiver: Receiver, status: int
) -> None:
    """Whoever corrects the receiver finds all results written, and the search is a short one."""
    receiver.judge = lambda body: (status, b"no s3cret")
    sink = http_sink(receiver.url, headers={"X-Token": "s3cret"})
    for size in (1, 64, 64):
        receiver.posts.clear()
        with pytest.raises(SinkUnavailableError) as caught:
            await sink.write(window_results(size))
        remedy = "the proxy's user and password" if status == 407 else "'url' or 'headers' of the"
        told = f"answered {status} no ***; correct {remedy}"
        assert told in str(caught.value)
        assert len(receiver.posts) <= 12
    receiver.judge = lambda body: None
    await sink.write(window_results(64))
    await sink.aclose()


async def test_one_window_looks_for_all_whether_anything_is_taken(receiver: Receiver) -> None:
    receiver.judge = lambda body: (403, b"")
    sink = http_sink(receiver.url)
    windows = [window_results(64, base_id=f"w{n}") for n in range(20)]
    done = await asyncio.gather(*map(sink.write, windows), return_exceptions=True)
    assert {type(error).__mro__[1] for error in done} == {SinkUnavailableError}
    assert len(receiver.posts) <= 20 + 12
    receiver.judge = lambda body: None
    await asyncio.gather(*map(sink.write, windows))
    await sink.aclose()


@pytest.mark.parametrize("status", [403, 404, 410])
@pytest.mark.parametrize("bad", [{0}, {9}, {0, 1}, {3, 4, 8}])
async def test_a_result_that_is_refused_while_others_are_taken_is_refused(
    receiver: Receiver, status: int, bad: set[int]
) -> None:
    """A firewall that dislikes one text answers 403, as to a token without permission."""
    receiver.judge = refusing(bad, status)
    sink = http_sink(receiver.url)
    with pytest.raises(SinkRejectedError) as caught:
        await sink.write(window_results(list(range(10)), ordinals=range(100, 110)))
    assert set(caught.value.ordinals or ()) == {100 + n for n in bad}
    await sink.aclose()


async def test_a_permission_that_is_lost_while_results_are_looked_for_refuses_none(
    receiver: Receiver,
) -> None:
    first = refusing({9}, 403)
    receiver.judge = lambda body: (403, b"") if len(receiver.posts) > 2 else first(body)
    sink = http_sink(receiver.url)
    with pytest.raises(SinkUnavailableError, match="answered 403"):
        await sink.write(window_results(list(range(10))))
    await sink.aclose()


async def test_a_window_of_one_result_that_is_refused_again_and_again_is_refused(
    receiver: Receiver,
) -> None:
    """Between the tries others are taken; without those it may be the receiver that is to blame."""
    receiver.judge = refusing({7}, 404)
    sink = http_sink(receiver.url)
    one = window_results([7], base_id="ex_1/in.w1/one/0")
    for _ in range(5):
        with pytest.raises(SinkUnavailableError):
            await sink.write(one)
    await sink.write(window_results([1]))
    with pytest.raises(SinkUnavailableError):
        await sink.write(one)
    await sink.write(window_results([2]))
    with pytest.raises(SinkRejectedError, match="404"):
        await sink.write(one)
    await sink.aclose()


def refusing(bad: set[int], status: int) -> Callable[[bytes], tuple[int, bytes] | None]:
    """Refuses whatever has one of these results in it."""

    def judge(body: bytes) -> tuple[int, bytes] | None:
        found = {result["data"] for result in json.loads(body)["results"]}
        return (status, b"no") if found & bad else None

    return judge


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_how_long_the_receiver_asks_to_be_left_alone_is_passed_on(
    receiver: Receiver, status: int
) -> None:
    receiver.answers.extend([(status, b"")] * 2)
    sink = http_sink(receiver.url)
    for value, least_s, most_s in (("7", 7, 7), (formatdate(time.time() + 600), 300, 600)):
        receiver.headers["Retry-After"] = value
        with pytest.raises(SinkUnavailableError) as caught:
            await sink.write(window_results(1))
        assert caught.value.retry_after is not None
        assert least_s <= caught.value.retry_after <= most_s
    await sink.aclose()


async def test_a_server_that_is_away_is_reported_without_secrets() -> None:
    port = free_port()
    sink = http_sink(f"http://me:s3cret@127.0.0.1:{port}/s3cret?t=s3cret")
    with pytest.raises(SinkUnavailableError, match=f"http://127.0.0.1:{port} did not answer") as e:
        await sink.write(window_results(1))
    await sink.aclose()
    assert "s3cret" not in str(e.value)


async def test_a_key_belongs_to_one_body(receiver: Receiver) -> None:
    sink = http_sink(receiver.url)
    window = current(window_results([0, 1, 2, 3], ordinals=[0, 1, 2, 3]))
    part = replace(current(window_results([2], ordinals=[2])), is_again=True)
    again = replace(current(window_results(["new"] * 4)), is_again=True, run="r1")
    other_sink = current(window_results([0, 1, 2, 3]), sink="t")
    for results in (window, part, part, again, window, other_sink):
        await sink.write(results)
    await sink.aclose()
    keys = [post.headers["idempotency-key"] for post in receiver.posts]
    bodies = [post.body for post in receiver.posts]
    assert keys[0] == keys[4]
    assert keys[1] == keys[2]
    assert len(set(keys)) == len(set(bodies)) == len(set(zip(keys, bodies, strict=True))) == 4
    assert keys[0].startswith("example~inc/ex_1/in.w1/all/0/0@s/")
    assert json.loads(bodies[0])["product"] == "example"
    assert json.loads(bodies[0])["results"][2]["id"] == "example~inc/ex_1/in.w1/all/0/0/2@s"


async def test_a_long_key_is_shortened_and_stays_apart_from_others(receiver: Receiver) -> None:
    sink = http_sink(receiver.url)
    for end in "ab":
        await sink.write(current(window_results(1, base_id=f"ex_1/in.w1/{'k' * 4000}{end}/0")))
    await sink.aclose()
    keys = [post.headers["idempotency-key"] for post in receiver.posts]
    assert [len(key) for key in keys] == [255, 255]
    assert keys[0].rpartition("/")[0] != keys[1].rpartition("/")[0]


async def test_a_redrive_of_what_an_earlier_version_wrote_has_another_key(
    receiver: Receiver,
) -> None:
    sink = http_sink(receiver.url)
    await sink.write(window_results(3))
    await sink.write(replace(window_results([9], ordinals=[1]), is_again=True))
    await sink.aclose()
    first, second = [post.headers["idempotency-key"] for post in receiver.posts]
    assert first == "ex_1/in.w1/all/0/0"
    assert second.startswith("ex_1/in.w1/all/0/0/")


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("bad", [{0}, {9}, {3, 4, 8}, set(range(10))])
async def test_results_that_are_refused_with_others_are_looked_for(
    receiver: Receiver, status: int, bad: set[int]
) -> None:
    """What is posted twice is posted under the same key, and under no other's."""

    receiver.judge = refusing(bad, status)
    sink = http_sink(receiver.url)
    results = window_results(list(range(10)), ordinals=range(100, 110))
    for _ in range(2):
        with pytest.raises(SinkRejectedError, match=f"answered {status} no") as caught:
            await sink.write(results)
        assert set(caught.value.ordinals or ()) == {100 + n for n in bad}
    await sink.aclose()
    taken = {post.headers["idempotency-key"]: post.body for post in receiver.posts}
    assert len(set(taken.values())) == len(taken) == len(receiver.posts) // 2


async def test_results_that_are_too_many_at_once_go_in_parts(receiver: Receiver) -> None:
    receiver.judge = lambda body: (413, b"") if len(json.loads(body)["results"]) > 3 else None
    sink = http_sink(receiver.url)
    await sink.write(window_results(10))
    await sink.aclose()
    bodies = [json.loads(post.body)["results"] for post in receiver.posts]
    ordinals = [[row["ordinal"] for row in body] for body in bodies if len(body) <= 3]
    assert sorted(n for part in ordinals for n in part) == list(range(10))


ENDLESS = b"HTTP/1.1 %d X\r\ntransfer-encoding: chunked\r\n\r\n"


@asynccontextmanager
async def talkative(status: int, pause_s: float) -> AsyncIterator[str]:
    """A receiver whose answers have no end; with status 0, no beginning either."""

    talking: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talking.add(task)
        writer.write(ENDLESS % status if status else b"HTTP/1.1 200 OK\r\nx: ")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n" if not pause_s else b"x")
                await writer.drain()
                await asyncio.sleep(pause_s)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.wait(talking, timeout=5)  # they end when nobody listens any more


@pytest.mark.parametrize("pause_s", [0.0, 0.02])
async def test_what_is_told_behind_a_status_without_end_changes_nothing(pause_s: float) -> None:
    async with talkative(200, pause_s) as url:
        sink = http_sink(url, timeout="1s")
        await sink.write(window_results(3))  # it was taken
        await sink.aclose()
    async with talkative(404, pause_s) as url:
        sink = http_sink(url, timeout="1s")
        with pytest.raises(SinkUnavailableError, match="404"):
            await sink.write(window_results(1))
        await sink.aclose()


async def test_an_answer_whose_beginning_trickles_in_ends_at_the_time_out() -> None:
    async with talkative(0, 0.02) as url:
        sink = http_sink(url, timeout="300ms")
        with pytest.raises(SinkUnavailableError, match=r"did not answer within 0\.3 s"):
            await sink.write(window_results(3))
        await sink.aclose()


async def test_a_packed_answer_of_any_size_takes_no_memory(receiver: Receiver) -> None:
    bomb = gzip.compress(b" " * 200_000_000)
    receiver.headers["Content-Encoding"] = "gzip"
    receiver.answers.extend([(200, bomb), (500, bomb)])
    sink = http_sink(receiver.url)
    tracemalloc.start()
    try:
        await sink.write(window_results(3))
        with pytest.raises(SinkUnavailableError, match="500"):
            await sink.write(window_results(3))
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    await sink.aclose()
