"""The redis_stream sink: each result an entry of a Redis stream."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator, Sequence
from importlib.resources import files
from typing import Any, Literal, cast

from pydantic import Field, SecretStr, field_validator
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError

from sinfer.config.units import Duration, Secret, to_ms, unit
from sinfer.errors import SinkRejectedError, SinkUnavailableError
from sinfer.logging.masking import without_credentials
from sinfer.sinks.base import Sink, SinkConfig
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


class RedisStreamSink(Sink):
    """Appends results to a stream, each once.

    An entry has the fields ``id`` (the idempotency key), ``product``, ``task``, ``window``,
    ``revision`` and ``data``. Beside the stream a bitmap for each window says which of its results
    were appended: what is written again adds nothing while that is kept, for ``remember`` after its
    last change, nor does a revision that a higher one has overtaken. A window that is run again by
    hand appends its results once more, under the same ids: the last entry of an id counts. Results
    that are known by their messages (``ack: done``) have a bitmap of 1 KiB for each 8,192 messages.
    """

    type = "redis_stream"

    class Config(SinkConfig):
        """Settings of the redis_stream sink."""

        type: Literal["redis_stream"] = "redis_stream"
        url: Secret
        """The server, ``redis://``, ``rediss://`` or ``unix://``; better not the window store."""
        stream: str = Field(min_length=1)
        """The key of the stream."""
        maxlen: int | None = Field(default=None, ge=1, json_schema_extra=unit("entries"))
        """Have Redis drop the oldest entries beyond about so many; by default it keeps all."""
        remember: Duration = Field(default="1d", validate_default=True)
        """How long a window is known as written."""
        timeout: Duration = Field(default="5s", validate_default=True)
        """Longest wait for connecting and for each answer; a call is tried twice."""

        @field_validator("url")
        @classmethod
        def _redis(cls, value: SecretStr) -> SecretStr:
            if not value.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
                raise ValueError("is a URL that begins with redis://, rediss:// or unix://")
            return value

    def __init__(self, config: Any) -> None:
        super().__init__(config)
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
        """What ``maxlen`` removed cannot be told from what never came: then it does not tell."""
        if self._head[1]:
            return None
        if self._keys is None:
            self._keys = await self._read_keys()
        return self._keys.of(windows, _entry_id)

    async def check(self) -> list[Checked]:
        marker = marker_key(self._stream, "check")
        return await checked_stream(self._redis, self._stream, marker, self.server)

    @property
    def server(self) -> str:
        return without_credentials(self.config.url.get_secret_value())

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
