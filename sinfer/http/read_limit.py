"""Reading an HTTP answer up to a limit, unpacked bytes included: whoever answers may send anything.

httpx unpacks each piece that comes in as a whole, so that 64 KiB of gzip become 64 MiB before
anybody can count them. Here the piece is unpacked bit by bit, and reading ends where the limit is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import httpx

ACCEPT_ENCODING = "gzip, deflate"
"""What requests must say whose answers are read here: other encodings are not understood."""

MOST_OF_ERRORS = 64 * 1024
"""Bytes of an answer that is read for its status."""

_CODING_HEADERS = (b"content-encoding", b"content-length", b"transfer-encoding")

_PIECE = 64 * 1024


class AnswerTooLargeError(Exception):
    """There is more of the answer than may be read."""


class AnswerEncodingError(Exception):
    """The answer cannot be unpacked."""


async def read_bounded(response: httpx.Response, most_bytes: int) -> httpx.Response:
    """Read an answer that was asked for with ``stream=True``, unpack it and close it.

    Of an answer with another status than 2xx, no more than ``MOST_OF_ERRORS`` is read, and what is
    beyond is left aside: the status counts, and of the body an excerpt. After a 5xx the connection
    is not used again: servers that meet an error of their own may close it without saying so.

    Args:
        response: to a request with ``ACCEPT_ENCODING``.
        most_bytes: of the body of an answer of status 2xx.

    Raises:
        AnswerTooLargeError: an answer of status 2xx is larger.
        AnswerEncodingError: it is packed in another way than was asked for, or damaged.
        httpx.HTTPError: and all else that httpx raises.
    """
    whole = response.is_success
    try:
        body, is_whole = await _read(response, most_bytes if whole else MOST_OF_ERRORS, whole=whole)
    finally:
        await response.aclose()
    if whole and not is_whole:
        raise AnswerTooLargeError
    headers = [pair for pair in response.headers.raw if pair[0].lower() not in _CODING_HEADERS]
    return httpx.Response(
        response.status_code, headers=headers, content=body, request=response.request
    )


async def _read(response: httpx.Response, most: int, *, whole: bool) -> tuple[bytes, bool]:
    """The body up to a limit, and whether that is all of it."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    announced = response.headers.get("content-length", "")
    if whole and coding == "identity" and announced.isdigit() and int(announced) > most:
        return b"", False
    end = int(announced) if response.is_server_error and announced.isdigit() else None
    received, found = 0, bytearray()
    try:
        unpacker = _unpacker(coding)
        async for piece in response.aiter_raw(_PIECE):
            for part in [piece] if unpacker is None else unpacker.unpack(piece, most + 1):
                found += part
                if len(found) > most:
                    return bytes(found[:most]), False
            received += len(piece)
            if received == end:  # whoever leaves before the end is told has the connection closed
                break
    except (zlib.error, AnswerEncodingError) as error:
        if whole:
            raise AnswerEncodingError(f"content-encoding {coding[:40]}: {error}") from None
        return bytes(found), False
    if whole and unpacker is not None and not unpacker.is_complete:
        raise AnswerEncodingError(f"content-encoding {coding[:40]}: it ends in the middle")
    return bytes(found), True


class _Unpacker:
    """zlib, at most so much at a time.

    Args:
        window_bits: which of zlib's formats.
    """

    def __init__(self, window_bits: int) -> None:
        self._window_bits = window_bits
        self._zlib = zlib.decompressobj(window_bits)
        self._is_begun = False

    @property
    def is_complete(self) -> bool:
        """Whether what was packed came to its end."""
        return self._zlib.eof or not self._is_begun

    def unpack(self, piece: bytes, most: int) -> Iterator[bytes]:
        while piece:
            if self._zlib.eof:  # gzip may come in several members
                self._zlib = zlib.decompressobj(self._window_bits)
            self._is_begun = True
            yield self._zlib.decompress(piece, min(most, _PIECE))
            piece = self._zlib.unconsumed_tail or self._zlib.unused_data


class _Deflate(_Unpacker):
    """``deflate`` is zlib by the standard, and without its header by custom."""

    def unpack(self, piece: bytes, most: int) -> Iterator[bytes]:
        if not self._is_begun and piece and piece[0] & 0x0F != zlib.DEFLATED:
            self._window_bits = -zlib.MAX_WBITS
            self._zlib = zlib.decompressobj(self._window_bits)
        yield from super().unpack(piece, most)


def _unpacker(coding: str) -> _Unpacker | None:
    if coding in ("identity", ""):
        return None
    if coding in ("gzip", "x-gzip"):
        return _Unpacker(zlib.MAX_WBITS | 16)
    if coding == "deflate":
        return _Deflate(zlib.MAX_WBITS)
    raise AnswerEncodingError("it was not asked for")
