"""Acknowledging no message before Redis keeps it: a power cut takes what is not on its disk yet, a
failover what no replica has, and an acknowledgement cannot be taken back.

``Asking`` has the questions, ``Durability`` what is waited for, and ``DurabilityBarrier`` the
acknowledgements of a partition that wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError, ResponseError

from sinfer.aio.batching import Batcher
from sinfer.aio.cancel import end
from sinfer.errors import StaleTokenError, StoreError, UnavailableError
from sinfer.logging.throttled import Throttled
from sinfer.store.keys import MARK
from sinfer.store.redis_errors import outage_of
from sinfer.store.replication import Replicas, Replication

if TYPE_CHECKING:
    from sinfer.store.connection import Store
    from sinfer.store.partition.writer import PartitionWriter

_log = logging.getLogger(__name__)

_ASK_MS = 1_000
"""How long Redis holds one WAITAOF or WAIT back; less than a socket's time-out."""

_TRIAL_S = 5.0
"""A server that says nothing of its disk for so long at the first try is not asked again; replicas
that have a write for so long and say nothing of their disks have no append-only file."""

_AGAIN_S = 60.0
"""After so long a server that did not confirm is tried once more, when a partition begins."""

_LOOK_S = 1.0
"""How often Redis is asked for its replicas."""

_AT_ONCE = 500
"""Partitions that are asked about in one round trip."""

_RETRY_S = 0.5
"""How soon Redis is asked once more where it gave no answer."""

_LAST_S = 2.0
"""How long the end of a partition waits for that; what is left then comes again."""


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


class Durability:
    """Asks Redis whether what was stored is kept: in its append-only file, on the disk, and on as
    many replicas as ``Replicas`` says, in their files where they have such.

    All that ask while an answer is under way share the next one: one connection does for any number
    of partitions. With ``appendfsync always`` an answer takes about a millisecond, with
    ``everysec`` up to a second.

    Args:
        store: the window store.

    Attributes:
        replicas: how many are waited for.
    """

    def __init__(self, store: Store) -> None:
        self.replicas = Replicas(store.replicas)
        self._store = store
        self._has_disk = False
        self._no_disk = ""
        self._no_replicas = ""
        self._their_disks: bool | None = None
        self._waits_for = ""
        self._trouble = Throttled(_log)
        self._risk = Throttled(_log)
        self._tried_s = self._looked_s = float("-inf")
        self._trying = asyncio.Lock()
        self._confirm: Batcher[tuple[PartitionWriter, int], bool] = Batcher(self._confirm_all)

    @property
    def confirms(self) -> bool:
        """Whether there is something to wait for."""
        return self._has_disk or self._needed > 0

    @property
    def _needed(self) -> int:
        return 0 if self._no_replicas else self.replicas.needed

    @property
    def text(self) -> str:
        """What is waited for, for a log line; empty before ``try_out``."""
        needed = self._needed
        theirs = f"{needed} of its replicas {'has' if needed == 1 else 'have'}"
        if self._has_disk:
            return "acknowledged is what Redis has on its disk (WAITAOF)" + (
                f", and {theirs}" if needed else ""
            )
        if not self._no_disk:
            return ""
        return self._disk_risk + (f"; acknowledged is what {theirs}" if needed else "")

    @property
    def _disk_risk(self) -> str:
        return (
            "a power cut of Redis may take acknowledged messages: Redis does not confirm what is on"
            f" its disk ({self._no_disk})"
        )

    @property
    def problems(self) -> list[str]:
        """What is wrong with it at the moment."""
        found = [self._waits_for] if self._waits_for else []
        if self._no_disk:
            found.append(self._disk_risk)
        if self.replicas.are_gone:
            found.append(
                "a failover of Redis may take acknowledged messages: its replicas are gone. Bring"
                " them back, or set SINFER_REDIS_REPLICAS=0"
            )
        if self._no_replicas:
            found.append(
                "a failover of Redis may take acknowledged messages: it does not tell what its"
                f" replicas have ({self._no_replicas})"
            )
        return found

    async def try_out(self) -> None:
        """Find out whether Redis confirms its disk, and how many replicas it has; what it does not
        confirm is asked for again after a while.

        Raises:
            UnavailableError: Redis cannot be reached.
        """
        async with self._trying:
            now_s = time.monotonic()
            if self._has_disk or now_s - self._tried_s < _AGAIN_S:
                return
            self._has_disk, self._no_disk, self._no_replicas = True, "", ""
            try:
                async with Asking.open(self._store) as asking:
                    await self._look(asking)
                    await asking.write_mark()
                    await self._try_disk(asking)
            except BaseException:
                self._has_disk = False
                raise
            self._tried_s = time.monotonic()

    async def _try_disk(self, asking: Asking) -> None:
        began_s = time.monotonic()
        while self._has_disk:
            found = await self._aof(asking, 0)
            if found is None or found[0]:
                return
            if time.monotonic() - began_s >= _TRIAL_S:
                self._give_up_disk(
                    f"a write was not there within {_TRIAL_S:g} s; is appendfsync no?"
                )

    async def look_for_replicas(self) -> None:
        """Where nothing is waited for, see from time to time whether there are replicas now.

        Raises:
            UnavailableError: Redis cannot be reached.
        """
        is_due = time.monotonic() - self._looked_s >= _TRIAL_S
        if is_due and not self.confirms and not self._no_replicas:
            async with Asking.open(self._store) as asking:
                await self._look(asking)

    async def has(self, writer: PartitionWriter, commits: int) -> bool:
        """Wait until all that was stored before this call is kept.

        Without waiting, where Redis does not tell; see ``confirms``.

        Args:
            writer: of a partition.
            commits: how many commits it has had.

        Returns:
            Whether the partition is as its writer left it. It is not when the store went back, as
            after a power cut or a failover, or when there is another writer already.

        Raises:
            UnavailableError: it is not kept, as far as Redis says: it cannot be reached, or it may
                have lost what was not kept yet.
        """
        return await self._confirm((writer, commits))

    async def _confirm_all(
        self, waiting: Sequence[tuple[PartitionWriter, int]]
    ) -> list[bool | Exception]:
        """Ask once for all who wait; a question under way may not cover what they ask for.

        One connection is asked everything: another one may lead to another server.
        """
        try:
            async with Asking.open(self._store) as asking:
                found = await asking.are_left(waiting)
                await asking.write_mark()
                await self._wait(asking)
        except UnavailableError as error:
            self._tell(f"nothing is acknowledged meanwhile: {error}")
            raise
        if self._waits_for:
            self._trouble.over("Redis confirms what is stored again")
            self._waits_for = ""
        return found

    async def _wait(self, asking: Asking) -> None:
        """Wait until the mark, and so all before it, is kept."""
        began_s = time.monotonic()
        is_kept = False
        while not is_kept:
            if time.monotonic() - self._looked_s >= _LOOK_S:
                await self._look(asking)
            is_kept = await self._is_kept(asking, time.monotonic() - began_s)

    async def _is_kept(self, asking: Asking, waited_s: float) -> bool:
        """Whether it is kept, after a while of asking; False as well where it is to be asked for
        in another way."""
        needed, is_on_disk, are_replicated = self._needed, True, True
        on_disks = needed if self._their_disks is not False else 0
        if self._has_disk or on_disks:
            found = await self._aof(asking, on_disks)
            if found is None:
                return False
            is_on_disk = found[0] >= int(self._has_disk)
            are_replicated = found[1] >= on_disks
            if on_disks and are_replicated:
                self._their_disks = True
        if needed and not on_disks:
            count = await self._replicated(asking, needed, _ASK_MS)
            if count is None:
                return False
            are_replicated = count >= needed
        if waited_s >= _TRIAL_S:
            if not is_on_disk:
                self._tell("Redis' disk is slow: nothing is acknowledged meanwhile")
            elif not are_replicated:
                await self._complain(asking, needed)
        return is_on_disk and are_replicated

    async def _complain(self, asking: Asking, needed: int) -> None:
        """Replicas do not confirm: they have no append-only file, or not what was stored."""
        if self._their_disks is None and await self._replicated(asking, needed, 1) == needed:
            self._their_disks = False
            return
        self._tell(
            f"nothing is acknowledged meanwhile: of Redis' replicas {self.replicas.online} follow,"
            f" and fewer than {needed} have what was stored (SINFER_REDIS_REPLICAS)"
        )

    # --- one question each ---

    async def _look(self, asking: Asking) -> None:
        """See how many replicas there are."""
        if self._no_replicas:
            return
        now_s = time.monotonic()
        try:
            seen = await asking.replication()
        except ResponseError as error:
            if outage_of(error) is not None:
                raise
            if not self.replicas.is_set:
                self._give_up_replicas(error)
            return
        if self.replicas.look(seen, now_s):
            self._their_disks = None
        self._looked_s = now_s
        if self.replicas.are_gone:
            self._risk.tell(self.problems[-1])
        else:
            self._risk.over()

    async def _aof(self, asking: Asking, replicas: int) -> tuple[int, int] | None:
        """How many servers have the mark on their disks, this one and replicas; None where it does
        not tell that, and another question is to be asked."""
        try:
            return await asking.on_disks(int(self._has_disk), replicas, _ASK_MS)
        except ResponseError as error:
            if outage_of(error) is not None:
                raise
            if self._has_disk:
                self._give_up_disk(str(error))
            else:
                self._their_disks = False
            return None

    async def _replicated(self, asking: Asking, replicas: int, wait_ms: int) -> int | None:
        """How many replicas have the mark; None where it does not tell that, and need not."""
        try:
            return await asking.replicated(replicas, wait_ms)
        except ResponseError as error:
            self._give_up_replicas(error)
            return None

    def _give_up_disk(self, why: str) -> None:
        """What cannot be had is not waited for, but it is said."""
        self._has_disk, self._no_disk = False, why
        self._trouble.tell(self._disk_risk)

    def _give_up_replicas(self, error: ResponseError) -> None:
        """Likewise, unless somebody has set that they are waited for."""
        if outage_of(error) is not None or self.replicas.is_set:
            raise error
        self._no_replicas = str(error)
        self._risk.tell(self.problems[-1])

    def _tell(self, text: str) -> None:
        self._waits_for = text
        self._trouble.tell(text)


class DurabilityBarrier:
    """Holds acknowledgements of a partition back until what they stand for is kept.

    They pass in their order. Reading and storing go on meanwhile.

    Args:
        durability: asks Redis.
        writer: writes the partition.
        lost: is told when nothing is acknowledged any more, as when the store has less than was
            stored.
    """

    def __init__(
        self,
        durability: Durability,
        writer: PartitionWriter,
        lost: Callable[[BaseException], None],
    ) -> None:
        self._durability = durability
        self._writer = writer
        self._lost = lost
        self._waiting: list[Callable[[], Awaitable[None]]] = []
        self._stored = 0
        self._opening: asyncio.Task[None] | None = None

    async def pass_on(self, acknowledge: Callable[[], Awaitable[None]]) -> None:
        """Acknowledge when all that the writer has stored so far is kept.

        At once, where Redis does not tell and nothing else waits.
        """
        if self._opening is not None and self._opening.done():
            self._opening = None
        if not self._durability.confirms and self._opening is None:
            await acknowledge()
            return
        self._waiting.append(acknowledge)
        self._stored = self._writer.commits
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(self._opened)

    def _opened(self, opening: asyncio.Task[None]) -> None:
        if not opening.cancelled() and (error := opening.exception()) is not None:
            self._lost(error)

    async def _open(self) -> None:
        while self._waiting:
            passing, stored = len(self._waiting), self._stored
            try:
                is_kept = await self._durability.has(self._writer, stored)
            except UnavailableError as error:
                _log.debug("%s: not acknowledged yet: %s", self._writer.scope, error)
                await asyncio.sleep(_RETRY_S)
                continue
            if not is_kept:
                self._waiting.clear()
                raise StaleTokenError(
                    f"{self._writer.scope}: Redis has less than was stored, as after a power cut or"
                    " a failover, or another ingestor writes by now; nothing of it is acknowledged"
                )
            for acknowledge in self._waiting[:passing]:
                await acknowledge()
            del self._waiting[:passing]

    async def aclose(self) -> None:
        """Wait a moment for what is on its way, and drop the rest."""
        if self._opening is not None:
            done, _ = await asyncio.wait({self._opening}, timeout=_LAST_S)
            await end(self._opening)
            if not done:
                _log.info("%s: some messages come again", self._writer.scope)
