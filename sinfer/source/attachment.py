"""Opening a source and keeping it attached while connections break and consumers vanish."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Self

from nats.aio.client import Client

from sinfer.aio.cancel import end
from sinfer.aio.wait import wait_for_event
from sinfer.errors import UnavailableError
from sinfer.logging.throttled import AGAIN_S
from sinfer.logging.troubles import PartitionTroubles, Troubles
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.source.batch import Batch
from sinfer.source.choice import choose_source, held_by_other
from sinfer.source.pull import PullTiming
from sinfer.source.source import Lost, Source
from sinfer.source.source_partition import SourcePartition
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_OUTAGE = "reading"

_OFTEN = 4
"""A source that is attached again so often within a minute is told of."""

_SLICE_S = 0.25
"""How soon a call that has to wait for the server looks at the time."""


class Attachment:
    """Holds a source to its consumer. There is one reader of a partition at a time.

    Args:
        client: the connection.
        source: what is attached.
        name: for log lines.
        timing: how soon a reconnect is noticed.
        troubles: those of the partition.

    Attributes:
        source: see above.
    """

    def __init__(
        self,
        client: Client,
        source: Source,
        *,
        name: str,
        timing: PullTiming,
        troubles: PartitionTroubles,
    ) -> None:
        self.source = source
        self._client = client
        self._name = name
        self._timing = timing
        self._troubles = troubles
        self._lost: Lost | None = None
        self._lost_at: deque[float] = deque(maxlen=_OFTEN)
        self._attaching: asyncio.Task[None] | None = None
        self._attached_at = 0.0
        self._failures = 0
        self._retry_at = 0.0
        self._woken = asyncio.Event()

    @classmethod
    async def open(
        cls,
        connection: Client,
        reading: SourcePartition,
        *,
        timing: PullTiming | None = None,
        troubles: PartitionTroubles | None = None,
        take: Callable[[str], Awaitable[Scope | None]] | None = None,
    ) -> Self:
        """Look at the stream, choose the source and attach it.

        Args:
            connection: a NATS connection, which may be shared; it is not closed here.
            reading: what is read, and from where on.
            timing: how long requests live and how soon silence is noticed.
            troubles: those of the partition, where somebody else wants to know of them.
            take: notes the durable that is read from now on, unless another task has it, which it
                returns then; see ``sinfer.store.boards.consumers``.

        Raises:
            SourceError: the stream is missing or cannot be read as the source asks for, or another
                task reads the durable; the text names stream, consumer, field and remedy.
            StreamResetError: the stream is not the one that the state belongs to.
            UnavailableError: the server does not answer.
        """
        stream = reading.source.stream
        timing = timing or PullTiming()
        api = JetStreamApi(connection, stream)
        source = await choose_source(connection, api, reading, timing)
        troubles = troubles or Troubles().of(reading.name)
        attachment = cls(connection, source, name=reading.name, timing=timing, troubles=troubles)
        for number, risk in enumerate(source.terms.risks):
            troubles.tell(f"risk {number}", risk)
        try:
            consumer = source.terms.consumer
            if take is not None and (other := await take(consumer)) is not None:
                raise held_by_other(stream, consumer, other)
            await attachment._attach()
        except BaseException:
            await attachment.aclose()
            raise
        return attachment

    async def next_batch(self, max_messages: int, timeout_s: float) -> Batch | None:
        """The source's next batch. While NATS is unavailable or restarts, this waits.

        Returns:
            None when nothing came, or ``wake`` was called.

        Raises:
            SourceError, StreamResetError, UnavailableError: see ``Source.next`` and ``attach``.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            got = await self.source.next(max_messages, max(0.0, deadline - time.monotonic()))
            if isinstance(got, Batch):
                return got
            if not isinstance(got, Lost):
                return None
            await self.restore(got, deadline - time.monotonic())
            if time.monotonic() >= deadline:
                return None

    async def restore(self, lost: Lost, timeout_s: float) -> None:
        """Attach a source again that says it is lost, where that is possible now.

        It is to be called for as long as the source says so; it waits between two tries.

        Args:
            lost: what the source said.
            timeout_s: how long to wait at most, seconds. ``wake`` ends that.

        Raises:
            SourceError, StreamResetError: the source cannot be read any more.
        """
        timeout_s = max(0.0, timeout_s)
        if not self._client.is_connected:
            self._note_outage("NATS is disconnected")
            await self._stop_attaching()
            await self._doze(min(timeout_s, self._timing.look_s))
            return
        if lost is not self._lost:
            self._lost = lost
            self._note_loss(lost.reason)
        if self._attaching is None:
            wait_s = self._retry_at - time.monotonic()
            if wait_s > 0:
                await self._doze(min(wait_s, timeout_s))
                return
            self._attaching = asyncio.create_task(self._attach())
        done, _ = await asyncio.wait({self._attaching}, timeout=min(timeout_s, _SLICE_S))
        if not done:
            return
        attaching, self._attaching = self._attaching, None
        try:
            attaching.result()
        except UnavailableError as error:
            self._note_outage(str(error))
            self._back_off()

    def wake(self) -> None:
        """Have ``restore`` and the source's ``next`` return soon.

        It is to be called when the connection was made again, so that this is noticed at once.
        """
        self._woken.set()
        self.source.wake()

    async def aclose(self) -> None:
        """Close the source; see ``Source.aclose``."""
        await self._stop_attaching()
        await self.source.aclose()

    async def _attach(self) -> None:
        await self.source.attach()
        self._attached_at = time.monotonic()
        self._troubles.over(_OUTAGE, "reads again")

    async def _stop_attaching(self) -> None:
        attaching, self._attaching = self._attaching, None
        if attaching is not None:
            await end(attaching)

    async def _doze(self, seconds: float) -> None:
        """Sleep, but not through a call of ``wake``."""
        await wait_for_event(self._woken, seconds)
        self._woken.clear()

    def _note_loss(self, reason: str) -> None:
        _log.info("%s: attaches again: %s", self._name, reason)
        self._lost_at.append(time.monotonic())
        if len(self._lost_at) == _OFTEN and self._lost_at[-1] - self._lost_at[0] < AGAIN_S:
            text = f"reads hardly anything, and begins again and again: {reason}"
            self._troubles.tell("attaching", text, fades=True)
        if time.monotonic() - self._attached_at > 5.0:
            self._failures = 0
        elif self._failures or time.monotonic() - self._attached_at < 1.0:
            self._back_off()

    def _back_off(self) -> None:
        self._retry_at = time.monotonic() + min(2.0, 0.05 * 2.0**self._failures)
        self._failures = min(self._failures + 1, 10)

    def _note_outage(self, reason: str) -> None:
        self._troubles.tell(_OUTAGE, f"cannot read: {reason}")
