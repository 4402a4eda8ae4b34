"""Reading what NATS puts around a payload: the block of headers, and subjects. Nothing is refused:
anybody may publish any bytes, and one message that cannot be read would stop all behind it."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from functools import partial

_VERSION = b"NATS/1.0"
_EACH_BYTE = "sinfer-each-byte"
"""How what is not UTF-8 is decoded: each byte becomes a U+FFFD, as in a server's JSON."""


def parse_headers(block: bytes | None) -> dict[str, str] | None:
    """The headers of a message, as nats-py reads them; None when there are none.

    Of a repeated name the last value counts. Lines without a colon and names that are no ASCII or
    hold white space are left out. In values, what is not UTF-8 becomes U+FFFD. A status in the
    first line, as servers send, is found under ``Status`` and ``Description``.

    Args:
        block: as it is on the wire and in a stream, with its first line.
    """
    if not block:
        return None
    first, *lines = block.split(b"\r\n")
    headers: dict[str, str] = {}
    if first[len(_VERSION) : len(_VERSION) + 1] == b" ":
        status, _, description = first[len(_VERSION) + 1 :].partition(b" ")
        if status.isdigit():
            headers["Status"] = status.decode()
        if description:
            headers["Description"] = description.decode("utf-8", "replace")
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.strip()
        if not colon or not name.isascii():
            continue
        key = name.decode()
        if not any(character.isspace() for character in key):
            headers[key] = value.strip().decode("utf-8", "replace")
    return headers or None


decode_subject: Callable[[bytes], str] = partial(bytes.decode, encoding="utf-8", errors=_EACH_BYTE)
"""A subject as text. For each byte that is not UTF-8 it has a U+FFFD, as in a server's JSON, so
that a message has one subject however it is read."""


def _replace_each(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_EACH_BYTE, _replace_each)
