"""The connection to Redis, the scripts, and the one place where Redis errors become sinfer's."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlsplit

import hiredis
from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import ConstantBackoff
from redis.commands.core import AsyncScript

from sinfer.config.sentinel_url import SCHEMES, SentinelUrl
from sinfer.config.tls import NO_FILES, TlsFiles
from sinfer.config.trust import environment_problem
from sinfer.errors import AccessError, ConfigError, StoreError, StoreFullError, UnavailableError
from sinfer.logging.masking import without_credentials
from sinfer.settings import settings, unread
from sinfer.store.format import REFUSAL, refusal
from sinfer.store.keys import CLOCK
from sinfer.store.lua import SCRIPTS, Argument, script_texts
from sinfer.store.redis_errors import code_of, outage_of
from sinfer.store.sentinel import SentinelPool

SOCKET_TIMEOUT_S = 1.25
"""Two tries of this take less than a third of the shortest lease."""

_WAIT_S = 5
"""How long to wait for a connection while all are in use."""

_LARGE_ANSWER_S = 30.0
"""How long the windows of a whole partition may take to be read: 100,000 of them take seconds."""

_NO_ANSWER = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)


def tls_problem(error: BaseException | None) -> str | None:
    """What to tell of an error that has its cause in TLS; None for others."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if error is None:
        return None
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not accepted ({error.verify_message}); set"
            f" SINFER_REDIS_TLS_CA to the CA that signed it{environment_problem()}"
        )
    return (
        f"breaks off TLS ({error.reason or error}); does it speak TLS at all? does it demand a"
        " client certificate? see SINFER_REDIS_TLS_CERT and SINFER_REDIS_TLS_KEY"
    )


def _refused(where: str, error: BaseException) -> StoreError:
    if isinstance(error, exceptions.ResponseError) and code_of(error) == REFUSAL:
        _, found, meta, *_ = str(error)[str(error).index(REFUSAL) :].split()
        return refusal(meta, found)
    if isinstance(error, exceptions.OutOfMemoryError):
        return StoreFullError(f"{where} is at maxmemory")
    return StoreError(f"{where}: {error}")


def _is_wrong_type(error: Exception) -> bool:
    """Whether a key holds something else than the command is for."""
    return "WRONGTYPE" in str(error) or "wrong kind of value" in str(error)


class _PackedByHiredis:
    """Has commands written by hiredis: redis-py reads answers with it, and leaves it at that where
    it is asynchronous."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """A command as it is sent. One of several words begins with all of them in one text."""
        first = args[0].encode() if isinstance(args[0], str) else args[0]
        return [hiredis.pack_command((*first.split(), *args[1:]))]


class _QuickConnection(_PackedByHiredis, Connection):
    pass


class _QuickTlsConnection(_PackedByHiredis, SSLConnection):
    pass


class _QuickSentinelConnection(_PackedByHiredis, SentinelManagedConnection):
    pass


class _QuickSentinelTlsConnection(_PackedByHiredis, SentinelManagedSSLConnection):
    pass


_QUICK: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _QuickConnection,
    SSLConnection: _QuickTlsConnection,
}


class Store:
    """Redis as the window store. Use it on one event loop.

    Args:
        url: ``redis://``, or ``sentinel://`` as ``SentinelUrl`` has it; ``rediss://`` and
            ``sentinels://`` for TLS.
        tls: certificates for that.
        replicas: how many of its replicas have to have what is acknowledged; None for one where
            there are any.

    Attributes:
        replicas: see above.
        redis: the client.
        for_large_answers: another, which waits for long while an answer is read.

    Raises:
        ConfigError: the URL is none that Redis clients understand.
    """

    def __init__(self, url: str, tls: TlsFiles = NO_FILES, replicas: int | None = None) -> None:
        self.replicas = replicas
        self.shown_url = without_credentials(url)
        self._url, self._tls = url, tls
        self._hint = ""
        self._has_tls = urlsplit(url).scheme in ("rediss", "sentinels")
        if self._has_tls:
            self._hint = " with TLS?" if tls.cert else " with TLS, without SINFER_REDIS_TLS_CERT?"
        try:
            self.redis: Redis = Redis.from_pool(self._pool(64, SOCKET_TIMEOUT_S))
            self.for_large_answers: Redis = Redis.from_pool(self._pool(2, _LARGE_ANSWER_S))
        except ValueError as error:
            raise ConfigError(f"SINFER_REDIS_URL: {error}") from None
        self._scripts: dict[str, AsyncScript] = {}
        self._kept: dict[str, AsyncScript] = {}
        self._register_scripts()

    def _pool(self, most: int, timeout_s: float) -> BlockingConnectionPool:
        secured: dict[str, Any] = self._tls.redis_options() if self._has_tls else {}
        options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": SOCKET_TIMEOUT_S,
            "retry": Retry(ConstantBackoff(0.05), 1),
            "retry_on_error": [exceptions.ConnectionError, exceptions.TimeoutError],
            "health_check_interval": 0,
            **secured,
        }
        if urlsplit(self._url).scheme in SCHEMES:
            asking = options | {"socket_timeout": SOCKET_TIMEOUT_S, "ssl": self._has_tls}
            url = SentinelUrl.parse(self._url)
            kind = _QuickSentinelTlsConnection if url.has_tls else _QuickSentinelConnection
            return SentinelPool(url, options, asking, kind=kind, most=most, timeout_s=_WAIT_S)
        pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
            self._url, max_connections=most, timeout=_WAIT_S, **options
        )
        if pool.connection_class in _QUICK:
            pool.connection_class = _QUICK[pool.connection_class]
        return pool

    def another(self) -> Store:
        """The same store with connections of its own, for another event loop."""
        return Store(self._url, self._tls, self.replicas)

    @classmethod
    def from_settings(cls) -> Store:
        """The window store of this process: ``SINFER_REDIS_URL`` and ``SINFER_REDIS_TLS_*``.

        Raises:
            ConfigError: as above.
        """
        own = settings()
        store = cls(own.redis_url, own.redis_tls, own.redis_replicas)
        store._hint += unread("redis_url", "REDIS_URL")
        return store

    def _register_scripts(self) -> None:
        for name, source in SCRIPTS.items():
            plain, kept = self._texts(source)
            self._scripts[name] = self.redis.register_script(plain)
            self._kept[name] = self.redis.register_script(kept)

    def _texts(self, source: str) -> tuple[str, str]:
        return script_texts(source)

    def script(self, name: str) -> AsyncScript:
        """A script, for those that run it on a connection of their own."""
        return self._scripts[name]

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        asked: str | None = None,
    ) -> Any:
        """Run a script.

        The client asks a second time when no answer comes in time, and then the script may have run
        twice. It is either one that says the same then, or its answer is to be kept.

        Args:
            script: its name.
            keys, args: as its file says.
            asked: a key in the same slot, new for each call, under which the answer is kept.

        Raises:
            UnavailableError: Redis cannot be reached.
            StoreFullError: Redis is at maxmemory.
            StoreError: Redis refused it for another reason.
        """
        async with self.errors():
            if asked is not None:
                return await self._kept[script](keys=[*keys, asked], args=args)
            return await self._scripts[script](keys=keys, args=args)

    async def run_many(
        self, script: str, calls: Sequence[tuple[Sequence[str], Sequence[Argument]]]
    ) -> list[Any]:
        """Run a script many times in one round trip; a call that failed gives its exception.

        Raises:
            UnavailableError: Redis cannot be reached.
        """
        async with self.redis.pipeline(transaction=False) as pipeline:
            # Leaving it gives the connection back: a pipeline with scripts keeps it when the first
            # thing that it asks, whether the server has them, fails.
            for keys, args in calls:
                await self._scripts[script](keys=keys, args=args, client=pipeline)
            return list(await self.ask(pipeline.execute(raise_on_error=False)))

    async def ask_each(self, pipeline: Any) -> list[Any]:
        """The answers to the commands of a pipeline; None where a key holds another kind of thing.

        Raises as ``run`` does.
        """
        answers = await self.ask(pipeline.execute(raise_on_error=False))
        for answer in answers:
            if isinstance(answer, Exception) and not _is_wrong_type(answer):
                async with self.errors():
                    raise answer
        return [None if isinstance(answer, Exception) else answer for answer in answers]

    async def ask(self, command: Awaitable[Any] | Any) -> Any:
        """Await a plain command; raises as ``run`` does."""
        async with self.errors():
            return await cast("Awaitable[Any]", command)

    @asynccontextmanager
    async def errors(self) -> AsyncIterator[None]:
        """Turn Redis errors into sinfer's."""
        try:
            yield
        except (exceptions.AuthenticationError, exceptions.AuthorizationError) as error:
            raise AccessError(
                f"Redis at {self.shown_url} refuses the user or password ({error}); correct them"
                " in SINFER_REDIS_URL"
            ) from error
        except exceptions.NoPermissionError as error:
            raise AccessError(
                f"Redis at {self.shown_url} forbids what sinfer needs ({error}); docs/security.md"
                " lists the permissions"
            ) from error
        except (exceptions.RedisError, OSError) as error:
            if (why := outage_of(error)) is not None:
                raise UnavailableError(
                    f"Redis at {self.shown_url} takes nothing now: {why} ({error})"
                ) from error
            if not isinstance(error, _NO_ANSWER):
                raise _refused(f"Redis at {self.shown_url}", error) from error
            if (reason := tls_problem(error)) is not None:
                raise AccessError(f"Redis at {self.shown_url} {reason}") from error
            raise UnavailableError(
                f"Redis cannot be reached at {self.shown_url}"
                f" ({str(error) or type(error).__name__}); is it running?{self._hint}"
            ) from error

    async def now_ms(self, clock: str = CLOCK) -> int:
        """The time of the store, milliseconds since the epoch: it follows Redis' clock, but for
        that it never goes back and never stands still.

        Args:
            clock: the ``meta`` of a partition for the time by which all of it is noted; by default
                that of what belongs to no partition. They differ where Redis' clock went back, and
                are not to be compared.
        """
        return int(await self.run("tell_time", [clock], [int(clock == CLOCK)]))

    async def aclose(self) -> None:
        """Close all connections."""
        for redis in (self.redis, self.for_large_answers):
            await redis.aclose()
            await redis.connection_pool.disconnect()
