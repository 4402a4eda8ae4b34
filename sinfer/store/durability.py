"""Acknowledging no message before it is on Redis' disk: an acknowledgement cannot be taken back,
and a power cut takes what is not on the disk yet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from sinfer.aio.batching import Batcher
from sinfer.aio.cancel import end
from sinfer.errors import StaleTokenError, StoreError, UnavailableError
from sinfer.logging.throttled import Throttled
from sinfer.store.keys import MARK
from sinfer.store.redis_errors import outage_of

if TYPE_CHECKING:
    from sinfer.store.connection import Store
    from sinfer.store.partition.writer import PartitionWriter

_log = logging.getLogger(__name__)

_ASK_MS = 1_000
"""How long Redis holds one WAITAOF back; less than a socket's time-out."""

_TRIAL_S = 5.0
"""A server that says nothing of its disk for so long at the first try is not asked again."""

_RETRY_S = 0.5
"""How soon Redis is asked once more where it gave no answer."""

_LAST_S = 2.0
"""How long the end of a partition waits for the disk; what is left then comes again."""

_AGAIN_S = 60.0
"""After so long a server that did not confirm is tried once more, when a partition begins."""


class Disk:
    """Asks Redis, with WAITAOF, whether what was stored is in its append-only file, on the disk.

    All that ask while an answer is under way share the next one: one connection does for any number
    of partitions. With ``appendfsync always`` an answer takes about a millisecond, with
    ``everysec`` up to a second.

    Args:
        store: the window store.

    Attributes:
        confirms: whether Redis tells.
        text: what it said when it was tried, for a log line; empty before.
        problem: what is wrong with it at the moment; empty when nothing is.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.confirms = False
        self.text = self.problem = ""
        self._trouble = Throttled(_log)
        self._tried_s = 0.0
        self._trying = asyncio.Lock()
        self._mark = store.source_of("write_durability_mark")
        self._confirm: Batcher[tuple[PartitionWriter, int], bool] = Batcher(self._confirm_all)

    async def try_out(self) -> None:
        """Find out whether Redis confirms; remembered for a while.

        Raises:
            UnavailableError: Redis cannot be reached.
        """
        async with self._trying:
            is_fresh = self.text and time.monotonic() - self._tried_s < _AGAIN_S
            if self.confirms or is_fresh:
                return
            why = await self._ask(_TRIAL_S)
            self._tried_s = time.monotonic()
            if why:
                self._give_up(why)
            else:
                self.confirms = True
                self.problem = ""
                self.text = "acknowledged is what Redis has on its disk (WAITAOF)"

    async def has(self, writer: PartitionWriter, commits: int) -> bool:
        """Wait until all that was stored before this call is on the disk.

        Without waiting, where Redis does not tell; see ``confirms``.

        Args:
            writer: of a partition.
            commits: how many commits it has had.

        Returns:
            Whether the partition is as its writer left it. It is not when the store went back, as
            after a power cut, or when there is another writer already.

        Raises:
            UnavailableError: the connection was lost: Redis may have lost what was not on its disk.
        """
        return await self._confirm((writer, commits))

    async def _confirm_all(
        self, waiting: Sequence[tuple[PartitionWriter, int]]
    ) -> list[bool | Exception]:
        """Ask once for all who wait; a question under way may not cover what they ask for."""
        if self.confirms and (why := await self._ask()):
            self._give_up(why)
        pipeline = self._store.redis.pipeline(transaction=False)
        for writer, _ in waiting:
            pipeline.hmget(writer.keys.meta, ["token", "commits"])
        found: list[bool | Exception] = []
        answers = await self._store.ask_each(pipeline)
        for (writer, commits), answer in zip(waiting, answers, strict=True):
            if answer is None:
                found.append(StoreError(f"{writer.scope}: {writer.keys.meta} is no hash"))
                continue
            token, stored = answer
            found.append(int(token or 0) == writer.token and int(stored or 0) >= commits)
        return found

    async def _ask(self, patience_s: float | None = None) -> str:
        """Wait for Redis to confirm; returns why it does not, and nothing when it has."""
        began_s = time.monotonic()
        async with self._store.errors():
            pool = self._store.redis.connection_pool
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                # A connection that breaks raises: a new one would know nothing of the mark.
                await connection.send_command("EVAL", self._mark, 1, MARK)
                await connection.read_response()
                while True:
                    await connection.send_command("WAITAOF", 1, 0, _ASK_MS)
                    answer: Any = await connection.read_response()
                    if int(answer[0]) > 0:
                        if self.problem:
                            self._trouble.over()
                            self.problem = ""
                        return ""
                    waited_s = time.monotonic() - began_s
                    if patience_s is not None and waited_s >= patience_s:
                        return f"a write was not there within {patience_s:g} s; is appendfsync no?"
                    if waited_s >= _TRIAL_S:
                        self.problem = "Redis' disk is slow: nothing is acknowledged meanwhile"
                        self._trouble.tell(self.problem)
            except ResponseError as error:
                if outage_of(error) is not None:
                    raise
                return str(error)
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                await pool.release(connection)

    def _give_up(self, why: str) -> None:
        """What cannot be had is not waited for, but it is said."""
        self.confirms = False
        self.text = (
            "a power cut of Redis may take acknowledged messages: Redis does not confirm what is on"
            f" its disk ({why})"
        )
        self.problem = self.text
        self._trouble.tell(self.problem)


class DurabilityBarrier:
    """Holds acknowledgements of a partition back until what they stand for is on Redis' disk.

    They pass in their order. Reading and storing go on meanwhile.

    Args:
        disk: Redis' disk.
        writer: writes the partition.
        lost: is told when the store has less than was stored; nothing is acknowledged any more.
    """

    def __init__(
        self, disk: Disk, writer: PartitionWriter, lost: Callable[[StaleTokenError], None]
    ) -> None:
        self._disk = disk
        self._writer = writer
        self._lost = lost
        self._waiting: list[Callable[[], Awaitable[None]]] = []
        self._stored = 0
        self._opening: asyncio.Task[None] | None = None

    async def pass_on(self, acknowledge: Callable[[], Awaitable[None]]) -> None:
        """Acknowledge when all that the writer has stored so far is on the disk.

        At once, where Redis does not tell and nothing else waits.
        """
        if self._opening is not None and self._opening.done():
            opening, self._opening = self._opening, None
            opening.result()
        if not self._disk.confirms and self._opening is None:
            await acknowledge()
            return
        self._waiting.append(acknowledge)
        self._stored = self._writer.commits
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        while self._waiting:
            passing, stored = len(self._waiting), self._stored
            try:
                is_kept = await self._disk.has(self._writer, stored)
            except UnavailableError as error:
                _log.debug("%s: not acknowledged yet: %s", self._writer.scope, error)
                await asyncio.sleep(_RETRY_S)
                continue
            if not is_kept:
                self._waiting.clear()
                self._lost(
                    StaleTokenError(
                        f"{self._writer.scope}: Redis has less than was stored, as after a power"
                        " cut, or another ingestor writes by now; nothing of it is acknowledged"
                    )
                )
                return
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
