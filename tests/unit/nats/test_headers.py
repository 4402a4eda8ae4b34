"""Any block of headers is read, and as nats-py reads it where that does."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from sinfer.nats.headers import decode_subject, parse_headers

_PIECES = st.one_of(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b":", b" ", b"\t", b"NATS/1.0", b"A", b"Status", b"\0", b"\xff"]
    ),
    st.binary(max_size=5),
    st.text(max_size=5).map(str.encode),
)
_BLOCKS = st.lists(_PIECES, max_size=40).map(b"".join)
_WORD = st.text("abcXYZ09-", min_size=1, max_size=8).map(str.encode)
_LINES = st.lists(
    st.tuples(_WORD, st.binary(max_size=9).map(lambda value: value.replace(b"\n", b"")))
)


def nats_py(block: bytes) -> dict[str, str] | None:
    headers: dict[str, str] | None = asyncio.run(Client()._process_headers(block))
    return headers


@given(_BLOCKS)
def test_headers_are_read_as_nats_py_does(rest: bytes) -> None:
    block = b"NATS/1.0\r\n" + rest + b"\r\n\r\n"
    assert parse_headers(block) == nats_py(block)


@given(st.integers(100, 999), _WORD, _LINES)
def test_a_status_is_read_as_nats_py_does(
    code: int, text: bytes, lines: list[tuple[bytes, bytes]]
) -> None:
    after = b"".join(b"%b: %b\r\n" % line for line in lines)
    block = b"NATS/1.0 %d %b\r\n%b\r\n" % (code, text, after)
    assert parse_headers(block) == nats_py(block)


@given(st.one_of(_BLOCKS, st.binary()))
def test_no_bytes_are_refused(block: bytes) -> None:
    parse_headers(block)
    parse_headers(b"NATS/1.0" + block)


@pytest.mark.parametrize(
    ("block", "headers"),
    [
        (None, None),
        (b"", None),
        (b"NATS/1.0", None),
        (b"NATS/1.0\r\n\r\n", None),
        (b"NATS/1.0\r\nA: 1\r\nB:2:3\r\nA: 4\r\n\r\n", {"A": "4", "B": "2:3"}),
        (b"NATS/1.0\r\nA: \xff\xfe\r\n\xc3\xa4: x\r\n\xff: y\r\n\r\n", {"A": "\ufffd\ufffd"}),
        (b"NATS/1.0\r\nno colon\r\nA: 1\r\n fold: 2\r\na b: 3\r\n\r\n", {"A": "1", "fold": "2"}),
        (b"NATS/1.0\r\n: nameless\r\nA:\0\r\n\r\n", {"": "nameless", "A": "\0"}),
        (b"NATS/1.0 \xff\xff\xff\r\nA: 1\r\n\r\n", {"A": "1"}),
        (b"NATS/1.0 404 No Messages\r\n\r\n", {"Status": "404", "Description": "No Messages"}),
        (b"NATS/1.0 503\r\n\r\n", {"Status": "503"}),
        (b"NATS/1.0\r\nA: " + b"x" * 100_000, {"A": "x" * 100_000}),
    ],
)  # fmt: skip
def test_odd_blocks(block: bytes | None, headers: dict[str, str] | None) -> None:
    assert parse_headers(block) == headers


@given(st.binary())
def test_a_subject_is_as_a_server_writes_it(subject: bytes) -> None:
    text = decode_subject(subject)
    assert msgspec.json.decode(msgspec.json.encode(text)) == text
    try:
        assert text == subject.decode()
    except UnicodeDecodeError:
        assert "\ufffd" in text


def test_each_byte_that_is_no_text_stands_for_itself() -> None:
    assert decode_subject(b"in.\xe2\x82.\xff\xffa") == "in.\ufffd\ufffd.\ufffd\ufffda"
