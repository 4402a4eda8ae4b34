"""Redis' disk: whether what was stored is on it, so that a power cut does not take it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from sinfer.aio.batching import Batcher
from sinfer.store.keys import MARK
from sinfer.store.redis_errors import outage_of

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_ASK_MS = 1_000
"""How long Redis holds one WAITAOF back; less than a socket's time-out."""

_TRIAL_S = 5.0
"""A server that says nothing of its disk for so long at the first try is not asked again."""

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
        self._tried_s = 0.0
        self._trying = asyncio.Lock()
        self._ask_for_all: Batcher[None, None] = Batcher(self._follow)

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

    async def written(self) -> None:
        """Return when all that was stored before this call is on the disk.

        It returns at once when Redis does not tell; see ``confirms``.

        Raises:
            UnavailableError: the connection was lost: Redis may have lost what was not on its disk.
        """
        if self.confirms:
            await self._ask_for_all(None)

    async def _follow(self, waiting: Sequence[None]) -> Sequence[None]:
        """Ask once for all who wait; a question under way may not cover what they ask for."""
        if why := await self._ask():
            self._give_up(why)
        return waiting

    async def _ask(self, patience_s: float | None = None) -> str:
        """Wait for Redis to confirm; returns why it does not, and nothing when it has."""
        began_s = time.monotonic()
        complained = False
        async with self._store.errors():
            pool = self._store.redis.connection_pool
            connection = await pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                # A connection that breaks raises: a new one would know nothing of the mark.
                await connection.send_command(
                    "EVAL", self._store.source_of("write_durability_mark"), 1, MARK
                )
                await connection.read_response()
                while True:
                    await connection.send_command("WAITAOF", 1, 0, _ASK_MS)
                    answer: Any = await connection.read_response()
                    if int(answer[0]) > 0:
                        self.problem = ""
                        return ""
                    waited_s = time.monotonic() - began_s
                    if patience_s is not None and waited_s >= patience_s:
                        return f"a write was not there within {patience_s:g} s; is appendfsync no?"
                    if not complained and waited_s >= _TRIAL_S:
                        complained = True
                        self.problem = "Redis' disk is slow: nothing is acknowledged meanwhile"
                        _log.warning("%s", self.problem)
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
        _log.warning("%s", self.problem)
