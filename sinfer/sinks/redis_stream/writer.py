"""Appends results to one Redis stream, and finds those that are there."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator, Sequence
from importlib.resources import files
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError

from sinfer.config.units import to_ms
from sinfer.errors import SinkRejectedError, SinkUnavailableError
from sinfer.sinks.redis_stream.check import checked_stream
from sinfer.sinks.stored_keys import StoredKeys
from sinfer.types.check import Checked
from sinfer.types.result import Confirmed, ResultRow, WindowResults

_ROWS_PER_CALL = 250
_BYTES_PER_CALL = 1024 * 1024
_MAX_CONNECTIONS = 8
_PAGE = 1000
_BLOCK = 8192
"""Messages that share a bitmap."""
_TOO_LARGE = re.compile(r"exceeds maximum allowed size|invalid bulk length", re.IGNORECASE)
"""Answers of a server to a result that it can never take. All others, such as OOM, WRONGTYPE or
NOPERM, tell of the server, the key or the user: it takes the same write later, once somebody did
something about that."""


class RedisStreamWriter:
    """The connections of one sink.

    Args:
        config: the sink's settings.
    """

    def __init__(self, config: Any) -> None:
        self._stream: str = config.stream
        self._head = [max(1, to_ms(config.remember)), config.maxlen or 0]
        timeout_s = config.timeout.total_seconds()
        pool = BlockingConnectionPool.from_url(
            config.url.get_secret_value(),
            max_connections=_MAX_CONNECTIONS,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(ExponentialBackoff(cap=1, base=0.05), retries=1),
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._keys: StoredKeys | None = None
        script = files(__package__).joinpath("append.lua").read_text("utf-8")
        self._append: AsyncScript = self._redis.register_script(script)

    async def write(self, results: WindowResults) -> Confirmed:
        """Append what is not there yet; raises as ``Sink.write`` does."""
        new = 0
        try:
            for rows in _calls(results):
                new += await self._write(results, rows)
        except (ConnectionError, TimeoutError, BusyLoadingError) as error:
            raise SinkUnavailableError(
                f"Redis did not take results for stream {self._stream!r}: {error}"
            ) from error
        except RedisError as error:
            text = f"Redis refuses results for stream {self._stream!r}: {error}"
            kind = SinkRejectedError if _TOO_LARGE.search(str(error)) else SinkUnavailableError
            raise kind(text) from error
        return Confirmed(new, len(results) - new)

    async def _write(self, results: WindowResults, rows: list[ResultRow]) -> int:
        """Append rows, which share few bitmaps, being in order; returns how many were new."""
        written = marker_key(self._stream, f"{results.key_prefix}{results.copy_suffix}")
        blocks = dict.fromkeys(row.ordinal // _BLOCK for row in rows)
        place = {block: 3 + n for n, block in enumerate(blocks)}  # in KEYS, from 1
        keys = [
            self._stream,
            marker_key(self._stream, f"{results.base_id}{results.key_suffix}"),
            *(f"{written}:{block}" for block in blocks),
        ]
        head = [
            results.revision, *self._head, results.product, results.task, results.window_id,
            results.key_prefix, results.key_suffix, int(results.is_again),
        ]  # fmt: skip
        words = [
            word
            for row in rows
            for word in (
                place[row.ordinal // _BLOCK], row.ordinal % _BLOCK, row.ordinal, row.data,
            )
        ]  # fmt: skip
        return int(await self._append(keys, [*head, *words]))

    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        """How many copies there are of results; see ``Sink.stored``. What ``maxlen`` removed cannot
        be told from what never came: then it does not tell."""
        if self._head[1]:
            return None
        if self._keys is None:
            self._keys = await self._read_keys()
        return self._keys.of(windows, _entry_id)

    async def check(self, place: str) -> list[Checked]:
        """Whether the server would append; nothing is appended.

        Args:
            place: the server, for people.
        """
        marker = marker_key(self._stream, "check")
        return await checked_stream(self._redis, self._stream, marker, place)

    async def _read_keys(self) -> StoredKeys:
        keys = StoredKeys()
        last = "-"
        try:
            while True:
                page = await cast(
                    "Awaitable[Any]", self._redis.xrange(self._stream, last, "+", count=_PAGE)
                )
                for _, fields in page:
                    keys.add(fields.get(b"id", b"").decode("utf-8", "replace"))
                if len(page) < _PAGE:
                    return keys
                last = f"({page[-1][0].decode()}"
        except RedisError as error:
            raise SinkUnavailableError(
                f"stream {self._stream!r} cannot be read: {error}"
            ) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _entry_id(results: WindowResults, row: ResultRow) -> str:
    return f"{results.key_prefix}/{row.ordinal}{results.key_suffix}"


def marker_key(stream: str, name: str) -> str:
    """The key of what was written of a window, in the hash slot of the stream."""
    has_tag = re.search(r"^[^{]*\{[^}]+\}", stream) is not None
    return f"{stream if has_tag else f'{{{stream}}}'}:written:{name}"


def _calls(results: WindowResults) -> Iterator[list[ResultRow]]:
    """The rows by ordinal, in parts that keep the server busy for a few milliseconds at most."""
    part: list[ResultRow] = []
    size = 0
    for row in sorted(results.rows, key=lambda row: row.ordinal):
        if part and (len(part) == _ROWS_PER_CALL or size + len(row.data) > _BYTES_PER_CALL):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row.data)
    if part:
        yield part
