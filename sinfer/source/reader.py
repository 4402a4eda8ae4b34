"""Reading one partition of a JetStream source, each message exactly once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from sinfer.aio.cancel import end
from sinfer.aio.wait import wait_for_event
from sinfer.errors import UnavailableError
from sinfer.logging.throttled import AGAIN_S
from sinfer.logging.troubles import PartitionTroubles, Troubles
from sinfer.nats.inbox import Inbox
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import SourceState
from sinfer.source.choice import choose_mode, held_by_other
from sinfer.source.mode import ReadingMode
from sinfer.source.pull import DROP_BYTES, PullRequests, PullTiming
from sinfer.source.source_partition import SourcePartition
from sinfer.store.partition.incarnation import incarnation_of
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_OUTAGE = "reading"

_OFTEN = 4
"""A reader that begins anew so often within a minute is told of."""

_SLICE_S = 0.25
"""How soon a call that has to wait for the server looks at the time."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """What a consumer does not deliver before more is acknowledged.

    Attributes:
        consumer: its name.
        unacknowledged: how many messages were delivered and are not acknowledged.
        messages: how many wait.
    """

    consumer: str
    unacknowledged: int
    messages: int


class PartitionReader:
    """Reads a partition from a stored state on.

    There is one reader of a partition at a time. What ``next_batch`` returned counts as read: a
    caller that fails to store a batch closes the reader and opens another from the stored state.

    Args:
        client: the connection.
        mode: how to read.
        name: for log lines.
        batch: how many messages to ask for at once.
        timing: how long requests live and how soon silence is noticed.
        troubles: those of the partition.
    """

    def __init__(
        self,
        client: Client,
        mode: ReadingMode,
        *,
        name: str,
        stream: str,
        batch: int,
        timing: PullTiming,
        troubles: PartitionTroubles,
    ) -> None:
        self._client = client
        self._troubles = troubles
        self._lost_at: deque[float] = deque(maxlen=_OFTEN)
        self._mode = mode
        self._name = name
        self._stream = stream
        self._batch = batch
        self._timing = timing
        self._inbox: Inbox | None = None
        self._pull: PullRequests | None = None
        self._attaching: asyncio.Task[None] | None = None
        self._attached_at = 0.0
        self._reconnects = 0
        self._failures = 0
        self._retry_at = 0.0
        self._pending = 0
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
        """Check the source, choose the mode and start to read.

        Args:
            connection: a NATS connection, which may be shared; not closed by the reader.
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
        source = reading.source
        api = JetStreamApi(connection, source.stream)
        mode = await choose_mode(connection, api, reading)
        reader = cls(
            connection,
            mode,
            name=reading.name,
            stream=source.stream,
            batch=source.batch,
            timing=timing or PullTiming(),
            troubles=troubles or Troubles().of(reading.name),
        )
        for number, risk in enumerate(mode.risks):
            reader._troubles.tell(f"risk {number}", risk)
        try:
            if take is not None and (other := await take(mode.consumer)) is not None:
                raise held_by_other(source.stream, mode.consumer, other)
            await reader._attach()
        except BaseException:
            await reader.aclose()
            raise
        return reader

    @property
    def mode(self) -> str:
        """How the partition is read, and why so; one line for the log."""
        return self._mode.text

    @property
    def state(self) -> SourceState:
        """How far the partition was read: the state of the last batch."""
        return self._mode.state

    @property
    def acknowledges(self) -> bool:
        """Whether the server is told what was stored or done, and may then forget it."""
        return self._mode.acknowledges

    @property
    def max_ack_pending(self) -> int | None:
        """How many messages may be unacknowledged at once; None for any number.

        With ``ack: done`` the server stops delivering at this number, so all open and unfinished
        windows of the partition together must hold fewer messages.
        """
        return self._mode.max_ack_pending

    @property
    def starts_over(self) -> bool:
        """Whether messages were read before of which the store knows nothing.

        Those that were not acknowledged come again, the others do not.
        """
        return self._mode.starts_over

    @property
    def incarnation(self) -> str:
        """Which messages these are; see ``sinfer.store.partition.incarnation``."""
        return incarnation_of(self._stream, self.state.stream_created, self._mode.start)

    @property
    def start(self) -> int:
        """The number of the start that the incarnation is of."""
        return self._mode.start

    @property
    def repeats_to(self) -> int:
        """Where it starts over, messages up to this stream sequence were read before."""
        return self._mode.repeats_to

    @property
    def pending(self) -> int:
        """How many messages the stream had left for this partition, by the last message read."""
        return self._pending

    async def next_batch(self, max_messages: int, timeout_s: float) -> Batch | None:
        """Read what has arrived, or wait for it.

        A batch holds what is there at once: it does not wait to become full. While NATS is away or
        restarts, this waits and reports None, and goes on behind the last batch afterwards.

        Args:
            max_messages: most messages in the batch.
            timeout_s: how long to wait for the first message.

        Returns:
            None when nothing came, or ``wake`` was called. A batch without messages is to be
            committed like any other.

        Raises:
            SourceError: the source cannot be read any more; see ``open``.
            StreamResetError: the stream was made anew or rolled back.
            UnavailableError: the connection is closed for good.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            remaining = deadline - time.monotonic()
            if await self._is_attached(remaining):
                inbox, pull = self._inbox, self._pull
                assert inbox is not None
                assert pull is not None
                batch = await self._read(inbox, pull, max_messages, remaining)
                if batch is not None:
                    return batch
                remaining = deadline - time.monotonic()
                behind = self._mode.is_missing_messages or self._mode.holds_deliveries
                if self._pull is not None and remaining > 0 and not behind:
                    await self._wait(inbox, pull, min(remaining, self._timing.look_s))
            if time.monotonic() >= deadline or self._woken.is_set():
                self._woken.clear()
                return None

    def wake(self) -> None:
        """Have ``next_batch`` return soon, whether or not anything came.

        It is to be called when the connection was made anew, so that this is noticed at once.
        """
        self._woken.set()
        if self._inbox is not None:
            self._inbox.wake()

    async def _doze(self, seconds: float) -> None:
        """Sleep, but not through a call of ``wake``."""
        await wait_for_event(self._woken, max(0.0, seconds))

    async def _read(
        self, inbox: Inbox, pull: PullRequests, max_messages: int, timeout_s: float
    ) -> Batch | None:
        mode = self._mode
        initial = mode.initial()
        if initial is not None:
            return initial
        if mode.is_missing_messages:
            batch = await mode.fill(max_messages)
            pull.rested()
            if batch is None:
                await self._doze(min(timeout_s, _SLICE_S))
            return batch
        await mode.tend(inbox)
        try:
            await pull.refill()
        except NatsError as error:
            self._lose(f"the connection takes no request: {error or type(error).__name__}")
        # Let the connection read and write, however fast batches are taken.
        await asyncio.sleep(0)
        return self._take(inbox, pull, max_messages)

    def _take(self, inbox: Inbox, pull: PullRequests, max_messages: int) -> Batch | None:
        """Read from the inbox; no await in here, so that a cancelled call loses nothing."""
        raws = inbox.take(max_messages)
        if not raws and not self._mode.holds_deliveries:
            return None
        batch, statuses, lost = self._mode.read(raws)
        pull.took(len(raws) - len(statuses))
        for status in statuses:
            reason = pull.status(status.headers or {})
            lost = lost or reason
        if lost is not None:
            self._lose(lost)
        if not (batch.messages or batch.deliveries):
            return None
        self._pending = batch.pending
        return batch

    async def _wait(self, inbox: Inbox, pull: PullRequests, timeout_s: float) -> None:
        if self._woken.is_set():
            return
        started = time.monotonic()
        if await inbox.wait(timeout_s):
            return
        if pull.waited(time.monotonic() - started):
            self._lose("the server is silent")

    async def _is_attached(self, timeout_s: float) -> bool:
        """Attach anew where that is needed and possible; wait no longer than told."""
        if self._client.is_closed:
            raise UnavailableError(f"{self._name}: the NATS connection is closed")
        if not self._client.is_connected:
            self._note_outage("NATS is disconnected")
            await self._stop_attaching()
            await self._doze(min(timeout_s, self._timing.look_s))
            return False
        if self._pull is not None:
            if self._reconnects == self._client.stats["reconnects"]:
                return True
            self._lose("the connection was made anew")
        if self._attaching is None:
            wait_s = self._retry_at - time.monotonic()
            if wait_s > 0:
                await self._doze(min(wait_s, timeout_s))
                return False
            self._attaching = asyncio.create_task(self._attach())
        done, _ = await asyncio.wait({self._attaching}, timeout=max(0.0, min(timeout_s, _SLICE_S)))
        if not done:
            return False
        attaching, self._attaching = self._attaching, None
        try:
            attaching.result()
        except UnavailableError as error:
            self._note_outage(str(error))
            self._back_off()
            return False
        return self._pull is not None

    async def _attach(self) -> None:
        reconnects = self._client.stats["reconnects"]
        config = await self._mode.attach()
        if self._inbox is None or not self._mode.keeps_inbox:
            try:
                await self._change_inbox()
            except NatsError as error:
                raise UnavailableError(f"{self._name}: {error or type(error).__name__}") from error
        assert self._inbox is not None
        self._reconnects = reconnects
        self._attached_at = time.monotonic()
        self._pull = PullRequests(
            self._client,
            self._inbox,
            stream=self._stream,
            config=config,
            batch=self._batch,
            timing=self._timing,
        )
        self._troubles.over(_OUTAGE, "reads again")

    async def _stop_attaching(self) -> None:
        attaching, self._attaching = self._attaching, None
        if attaching is not None:
            await end(attaching)

    async def _change_inbox(self) -> None:
        old, self._inbox = self._inbox, None
        if old is not None:
            await old.close()
        self._inbox = await Inbox.open(
            self._client, max_messages=8 * self._batch + 1024, max_bytes=DROP_BYTES
        )

    def _lose(self, reason: str) -> None:
        """What was asked for may not come: attach anew before the next read."""
        if self._pull is None:
            return
        self._pull = None
        _log.info("%s: attaches anew: %s", self._name, reason)
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

    async def committed(self, batch: Batch) -> None:
        """The batch is stored: acknowledge what may be acknowledged.

        Batches are to be stored, and reported here, in the order they were read.
        """
        await self._mode.committed(batch)

    async def finished(self, ranges: list[tuple[int, int]]) -> None:
        """The windows of these messages are done: acknowledge them, with ``ack: done``.

        Args:
            ranges: inclusive ranges of stream sequences. Every message of the partition within
                them is done, filtered out or dead-lettered. To tell the same again is harmless; a
                new reader is to be told all that is done, because acknowledgements that the last
                one sent may have been lost.
        """
        await self._mode.finished(ranges)

    async def caught_up(self) -> bool:
        """Whether everything that is in the stream for this partition was read.

        Asks the server, so that no stale number is trusted: nothing is buffered here, nothing on
        its way, nothing unread waits for redelivery, and nothing is left in the stream.
        """
        if self._pull is None or not self._client.is_connected:
            return False
        try:
            info = await self._mode.info()
        except UnavailableError:
            return False
        return info is not None and self._pull is not None and self._mode.caught_up(info)

    async def aclose(self) -> None:
        """Stop reading and remove what was made for it; the connection stays open.

        Messages of a durable consumer that were not stored are given back, so that the next reader
        has them at once.
        """
        self._pull = None
        await self._stop_attaching()
        inbox, self._inbox = self._inbox, None
        unread: list[Msg] = []
        if inbox is not None:
            await inbox.close()
            unread = inbox.take(inbox.buffered)
        await self._mode.aclose(unread)

    async def withheld(self) -> Withheld | None:
        """What the server keeps back, since ``max_ack_pending`` messages are unacknowledged.

        Returns:
            None when nothing is kept back, or that is not known.
        """
        limit = self._mode.max_ack_pending
        if limit is None or self._mode.outstanding < limit or not self._client.is_connected:
            return None
        try:
            info = await self._mode.info()
        except UnavailableError:
            return None
        if info is None or not info.num_pending:
            return None
        if info.num_ack_pending < (info.config.max_ack_pending or limit):
            return None  # it was raised meanwhile
        return Withheld(info.name, info.num_ack_pending, info.num_pending)
