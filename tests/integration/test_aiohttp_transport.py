"""httpx over aiohttp sends what httpx sends, and raises what httpx raises."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from sinfer.http.aiohttp_transport import AiohttpTransport, MalformedAnswerError

pytestmark = pytest.mark.integration

LIMITS = httpx.Limits(keepalive_expiry=4.0)
PLAIN = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@asynccontextmanager
async def answering(answer: bytes, seen: list[bytes]) -> AsyncIterator[str]:
    """A server that answers whatever comes with some bytes, and then closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def both(**options: object) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """A client over httpx' own transport, and one over aiohttp."""
    over = AiohttpTransport(httpx.create_ssl_context(), LIMITS)
    async with (
        httpx.AsyncClient(trust_env=False, timeout=0.5) as own,
        httpx.AsyncClient(transport=over, trust_env=False, timeout=0.5) as other,
    ):
        yield own, other


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/", {}),
        ("/a%20b/%C3%A9?x=%2F&y=a+b#there", {"X-Key": "k"}),
        ("/v2/models/a%2Fb/infer", {"Content-Type": "application/json", "Host": "other:80"}),
        ("//twice/./../up", {"User-Agent": "me", "Accept": "a/b", "Accept-Encoding": "gzip"}),
    ],
)
@pytest.mark.parametrize("userinfo", ["", "me:s%40cret@", "me@"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_the_same_goes_over_the_wire(
    path: str, headers: dict[str, str], userinfo: str, method: str
) -> None:
    seen: list[bytes] = []
    content = b"body" if method == "POST" else None
    async with answering(PLAIN, seen) as place, both() as clients:
        for client in clients:
            url = f"http://{userinfo}{place}{path}"
            answer = await client.request(method, url, headers=headers, content=content)
            assert (answer.status_code, answer.content) == (200, b"ok")
    first, second = (_lines(request) for request in seen)
    assert first == second


def _lines(request: bytes) -> tuple[bytes, list[bytes]]:
    start, *headers = request.strip().split(b"\r\n")
    named = (line.partition(b":") for line in headers)
    return start, sorted(name.lower() + b":" + value.strip() for name, _, value in named)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal",
        b"no HTTP at all\r\n\r\n",
    ],
)
async def test_a_broken_answer_is_the_same_error(answer: bytes) -> None:
    async with answering(answer, []) as place, both() as (own, other):
        with pytest.raises(httpx.HTTPError) as expected:
            await own.get(f"http://{place}/")
        with pytest.raises(httpx.HTTPError) as found:
            await other.get(f"http://{place}/")
    assert type(found.value) in (type(expected.value), MalformedAnswerError)


async def test_servers_that_are_not_there_are_the_same_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        urls = [f"http://127.0.0.1:{taken.getsockname()[1]}/", "http://nobody.invalid/"]
        async with both() as clients:
            for url in urls:
                kinds = []
                for client in clients:
                    with pytest.raises(httpx.TransportError) as found:
                        await client.get(url)
                    kinds.append(type(found.value))
                assert kinds == [httpx.ConnectError] * 2


async def test_a_server_that_says_nothing_is_a_time_out() -> None:
    async with both() as clients:
        with socket.create_server(("127.0.0.1", 0)) as server:
            for client in clients:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(f"http://127.0.0.1:{server.getsockname()[1]}/")
