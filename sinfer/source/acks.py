"""When and how deliveries of a durable consumer are acknowledged."""

from __future__ import annotations

import asyncio

from nats.aio.client import Client

from sinfer.aio.cancel import end
from sinfer.nats.inbox import publish_to_each
from sinfer.source.batch import Batch
from sinfer.source.ranges import RangeSet

ACK = b"+ACK"
NAK = b"-NAK"
IN_PROGRESS = b"+WPI"


class Acks:
    """Acknowledges each delivery by itself, once it is stored.

    Args:
        client: the connection.

    Attributes:
        by_position: whether what was read without a delivery lets others be acknowledged.
        keeps_deliveries: whether ``took`` is to be told of deliveries.
    """

    by_position = False
    keeps_deliveries = False

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def outstanding(self) -> int:
        """How many deliveries are left unacknowledged on purpose."""
        return 0

    @property
    def wants_floor(self) -> bool:
        """Whether ``settle`` would free memory."""
        return False

    def took(self, deliveries: list[tuple[int, str]]) -> None:
        """These deliveries, as stream sequence and reply subject, are about to be returned."""

    async def committed(self, batch: Batch) -> None:
        """The batch and all before it are stored."""
        await publish_to_each(self._client, [reply for _, reply in batch.deliveries], ACK)

    async def finished(self, ranges: list[tuple[int, int]]) -> None:
        """The windows of these stream sequences are done."""

    def settle(self, through: int) -> None:
        """The server awaits no acknowledgement up to this stream sequence."""

    async def give_back(self, replies: list[str]) -> None:
        """These deliveries will not be stored here: have them delivered again at once."""
        await publish_to_each(self._client, replies, NAK)

    async def aclose(self) -> None:
        """Stop what runs in the background."""


class AcksThrough(Acks):
    """For consumers where an acknowledgement stands for all before it (ack policy ``all``).

    Acknowledged is the highest delivery at or below the position, so that nothing that is missing
    yet, be it lost on the way or delivered to an earlier reader, is acknowledged along with it.
    """

    by_position = True

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self._waiting: dict[int, str] = {}

    async def committed(self, batch: Batch) -> None:
        self._waiting.update(batch.deliveries)
        position = batch.state.position
        below = [stream_seq for stream_seq in self._waiting if stream_seq <= position]
        if below:
            await publish_to_each(self._client, [self._waiting[max(below)]], ACK)
            for stream_seq in below:
                del self._waiting[stream_seq]

    async def give_back(self, replies: list[str]) -> None:
        """Nothing: they come again after the consumer's ``ack_wait``."""


class AcksWhenDone(Acks):
    """Each delivery by itself, once its window is done; until then it is kept from redelivery.

    Args:
        client: the connection.
        ack_wait_s: the server redelivers what it has not heard of for so long.
    """

    keeps_deliveries = True

    def __init__(self, client: Client, ack_wait_s: float) -> None:
        super().__init__(client)
        self._outstanding: dict[int, str] = {}
        self._finished = RangeSet()
        self._period_s = ack_wait_s / 3
        self._in_progress = asyncio.create_task(self._keep_in_progress())

    @property
    def outstanding(self) -> int:
        return len(self._outstanding)

    def took(self, deliveries: list[tuple[int, str]]) -> None:
        self._outstanding.update(deliveries)

    async def committed(self, batch: Batch) -> None:
        """Acknowledge only what was finished before: its acknowledgement had been lost."""
        if self._finished:
            again = [seq for seq, _ in batch.deliveries if seq in self._finished]
            await self._acknowledge(again)

    async def finished(self, ranges: list[tuple[int, int]]) -> None:
        ready: list[int] = []
        for first, last in ranges:
            self._finished.add(first, last)
            if last - first < len(self._outstanding):
                ready += [seq for seq in range(first, last + 1) if seq in self._outstanding]
            else:
                ready += [seq for seq in self._outstanding if first <= seq <= last]
        await self._acknowledge(ready)

    async def _acknowledge(self, stream_seqs: list[int]) -> None:
        replies = [self._outstanding.pop(seq, None) for seq in stream_seqs]
        await publish_to_each(self._client, [reply for reply in replies if reply], ACK)

    def settle(self, through: int) -> None:
        self._finished.discard_through(through)
        for stream_seq in [seq for seq in self._outstanding if seq <= through]:
            del self._outstanding[stream_seq]

    @property
    def wants_floor(self) -> bool:
        return len(self._finished) > 0

    async def _keep_in_progress(self) -> None:
        while True:
            await asyncio.sleep(self._period_s)
            if self._outstanding and self._client.is_connected:
                await publish_to_each(self._client, list(self._outstanding.values()), IN_PROGRESS)

    async def aclose(self) -> None:
        await end(self._in_progress)
