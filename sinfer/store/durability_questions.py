"""What Redis is asked of what it keeps, all over one connection: another one may lead to another
server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ResponseError

from sinfer.errors import StoreError
from sinfer.store.keys import MARK
from sinfer.store.redis_errors import outage_of
from sinfer.store.replication import Replication

if TYPE_CHECKING:
    from sinfer.store.connection import Store
    from sinfer.store.partition.writer import PartitionWriter

_AT_ONCE = 500
"""Partitions that are asked about in one round trip."""


class Asking:
    """One connection, and the questions. What Redis refuses is raised as ``ResponseError``.

    Args:
        connection: is not made again under way: a new one would know nothing of the mark.
        store: the window store.
    """

    def __init__(self, connection: Any, store: Store) -> None:
        self._connection = connection
        self._store = store

    @classmethod
    @asynccontextmanager
    async def open(cls, store: Store) -> AsyncIterator[Asking]:
        """A connection of the store, for as long as it is asked.

        Raises:
            UnavailableError: Redis cannot be reached, or does nothing at the moment.
            StoreError: it refuses what it is asked.
        """
        async with store.errors():
            pool = store.redis.connection_pool
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                yield cls(connection, store)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                await pool.release(connection)

    async def write_mark(self) -> None:
        """What is waited for on this connection is behind all that any connection wrote before."""
        script = self._store.script("write_durability_mark")
        try:
            await self._ask("EVALSHA", script.sha, 1, MARK)
        except NoScriptError:
            await self._ask("SCRIPT LOAD", script.script)
            await self._ask("EVALSHA", script.sha, 1, MARK)

    async def replication(self) -> Replication:
        """What there is of replicas."""
        return Replication.of(await self._ask("INFO", "replication"))

    async def on_disks(self, own: int, replicas: int, wait_ms: int) -> tuple[int, int]:
        """How many servers have the mark on their disks: this one, 0 or 1, and replicas.

        Args:
            own, replicas: how many of each are waited for.
            wait_ms: how long at most, milliseconds.
        """
        found = await self._ask("WAITAOF", own, replicas, wait_ms)
        return int(found[0]), int(found[1])

    async def replicated(self, replicas: int, wait_ms: int) -> int:
        """How many replicas have the mark, in memory at least; arguments as above."""
        return int(await self._ask("WAIT", replicas, wait_ms))

    async def are_left(
        self, waiting: Sequence[tuple[PartitionWriter, int]]
    ) -> list[bool | Exception]:
        """Whether partitions are as their writers left them, after so many commits."""
        connection = self._connection
        found: list[bool | Exception] = []
        for first in range(0, len(waiting), _AT_ONCE):
            some = waiting[first : first + _AT_ONCE]
            asked = [("HMGET", writer.keys.meta, "token", "commits") for writer, _ in some]
            await connection.send_packed_command(connection.pack_commands(asked))
            for writer, commits in some:
                try:
                    token, stored = await connection.read_response()
                except ResponseError as error:
                    if outage_of(error) is not None:
                        raise
                    found.append(StoreError(f"{writer.scope}: {writer.keys.meta}: {error}"))
                else:
                    is_left = int(token or 0) == writer.token and int(stored or 0) >= commits
                    found.append(is_left)
        return found

    async def _ask(self, *command: Any) -> Any:
        await self._connection.send_command(*command)
        return await self._connection.read_response()
