"""The redis_stream sink: each result an entry of a Redis stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator

from sinfer.config.secret import Secret
from sinfer.config.units import Duration, unit
from sinfer.logging.masking import without_credentials
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.types.check import Checked
from sinfer.types.result import Confirmed, WindowResults


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
        from sinfer.sinks.redis_stream.writer import RedisStreamWriter

        super().__init__(config)
        self._writer = RedisStreamWriter(config)

    async def write(self, results: WindowResults) -> Confirmed:
        return await self._writer.write(results)

    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        return await self._writer.stored(windows)

    async def check(self) -> list[Checked]:
        return await self._writer.check(self.server)

    @property
    def server(self) -> str:
        return without_credentials(self.config.url.get_secret_value())

    async def aclose(self) -> None:
        await self._writer.aclose()
