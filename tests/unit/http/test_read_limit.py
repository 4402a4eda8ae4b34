"""Answers are read up to a limit, whatever they are packed as and however they come in."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinfer.http.read_limit import (
    MOST_OF_ERRORS,
    AnswerEncodingError,
    AnswerTooLargeError,
    read_bounded,
)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, list[Callable[[bytes], bytes]]] = {
    "identity": [bytes],
    "gzip": [gzip.compress, lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:])],
    "deflate": [zlib.compress, raw_deflate],
}


def answer(
    body: bytes, coding: str = "identity", *, status: int = 200, piece: int = 1000
) -> httpx.Response:
    async def pieces() -> AsyncIterator[bytes]:
        for place in range(0, len(body), piece):
            yield body[place : place + piece]

    request = httpx.Request("POST", "http://model")
    headers = {"content-encoding": coding, "x-other": "kept"}
    return httpx.Response(status, headers=headers, content=pieces(), request=request)


@settings(deadline=None)
@given(
    st.binary(max_size=5000), st.sampled_from(sorted(PACKERS)), st.integers(0, 1),
    st.integers(1, 3000), st.integers(0, 6000),
)  # fmt: skip
async def test_an_answer_is_read_whole_or_not_at_all(
    data: bytes, coding: str, way: int, piece: int, most: int
) -> None:
    pack = PACKERS[coding][way % len(PACKERS[coding])]
    response = answer(pack(data), coding, piece=piece)
    if len(data) > most:
        with pytest.raises(AnswerTooLargeError):
            await read_bounded(response, most)
    else:
        read = await read_bounded(response, most)
        assert read.content == data
        assert read.headers["x-other"] == "kept"
        assert "content-encoding" not in read.headers


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 500])
async def test_a_bomb_takes_no_memory(coding: str, status: int) -> None:
    bomb = PACKERS[coding][0](b" " * 200_000_000)
    tracemalloc.start()
    try:
        if status == 200:
            with pytest.raises(AnswerTooLargeError):
                await read_bounded(answer(bomb, coding, piece=65536), 1_000_000)
        else:
            read = await read_bounded(answer(bomb, coding, status=status, piece=65536), 1_000_000)
            assert (read.status_code, len(read.content)) == (500, MOST_OF_ERRORS)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (b"no gzip", "gzip"), (gzip.compress(b"x" * 1000)[:-9], "gzip"), (b"x", "br"),
        (gzip.compress(gzip.compress(b"x")), "gzip, gzip"), (b"\xff\xff\xff", "deflate"),
    ],
    ids=["no gzip", "cut gzip", "br", "gzip twice", "no deflate"],  # gzip holds the time
)  # fmt: skip
async def test_what_cannot_be_unpacked_is_an_error_of_its_own(body: bytes, coding: str) -> None:
    with pytest.raises(AnswerEncodingError):
        await read_bounded(answer(body, coding), 1_000_000)
    # The status says what is to be done, whatever the body is.
    assert (await read_bounded(answer(body, coding, status=503), 1_000_000)).status_code == 503


async def test_an_announced_length_beyond_the_limit_is_not_read() -> None:
    request = httpx.Request("POST", "http://model")

    async def unread() -> AsyncIterator[bytes]:
        raise AssertionError("it was read")
        yield b""

    headers = {"content-length": "1000001"}
    response = httpx.Response(200, headers=headers, content=unread(), request=request)
    with pytest.raises(AnswerTooLargeError):
        await read_bounded(response, 1_000_000)
