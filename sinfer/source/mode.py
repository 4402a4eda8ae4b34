"""A way to read a partition: which consumer is used, and what makes a message new."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import UTC, datetime
from typing import Any

from nats.aio.msg import Msg

from sinfer.errors import StreamResetError
from sinfer.nats.inbox import Inbox
from sinfer.nats.jetstream_types import ConsumerConfig, ConsumerInfo, StreamInfo
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import SourceState
from sinfer.source.config import JetStreamSource, StartSequence


class ReadingMode(ABC):
    """One of the ways to read; see the subclasses.

    Attributes:
        text: the mode and why it was chosen, for a log line.
        acknowledges: whether the server is told what was stored or done, and may then forget it.
        keeps_inbox: whether messages that have arrived still count after ``attach``.
        max_ack_pending: how many messages may wait for their acknowledgement; None for any number.
        starts_over: whether messages were read before of which the store knows nothing, as after
            Redis was wiped.
        start: the number of the partition's start; see ``store.partition.incarnation``.
        risks: what of the source's settings may lose messages or have them come again.
        repeats_to: where it starts over, messages up to this stream sequence were read before.
        consumer: the durable that nobody else may read; see ``store.boards.consumers``. Empty
            where there is none.
    """

    text: str
    acknowledges = True
    keeps_inbox = True
    max_ack_pending: int | None = None
    starts_over = False
    start = 0
    repeats_to = 0
    risks: tuple[str, ...] = ()
    consumer = ""

    @abstractmethod
    async def attach(self) -> ConsumerConfig:
        """Make sure that the consumer exists and that the stream is still the same.

        Returns:
            The settings of the consumer that is to be pulled from.

        Raises:
            SourceError: the source cannot be read any more.
            UnavailableError: not now.
        """

    @property
    @abstractmethod
    def state(self) -> SourceState:
        """How far the partition was read."""

    @abstractmethod
    def read(self, deliveries: list[Msg]) -> tuple[Batch, list[Msg], str | None]:
        """Tell the new messages.

        Returns:
            The batch, the status messages, and a text when something was lost so that the mode must
            attach anew; what came after the loss is not in the batch.
        """

    @abstractmethod
    def caught_up(self, info: ConsumerInfo) -> bool:
        """Whether all that the consumer ever delivered was read, and it has nothing left."""

    @abstractmethod
    async def info(self) -> ConsumerInfo | None:
        """Where the consumer stands; None when it is gone."""

    def initial(self) -> Batch | None:
        """A batch to store before anything is read, where the start must not be lost; once."""
        return None

    @property
    def is_missing_messages(self) -> bool:
        """Whether ``fill`` has to be called before ``read``."""
        return False

    @property
    def holds_deliveries(self) -> bool:
        """Whether deliveries were taken that ``read`` has yet to look at."""
        return False

    @property
    def outstanding(self) -> int:
        """How many deliveries are left unacknowledged on purpose."""
        return 0

    async def fill(self, max_messages: int) -> Batch | None:
        """Read from the stream itself what did not come; None when that cannot be done now.

        Raises:
            SourceError: the source cannot be read any more.
        """
        return None

    @abstractmethod
    async def tend(self, inbox: Inbox) -> None:
        """What is to be done from time to time between two reads."""

    @abstractmethod
    async def committed(self, batch: Batch) -> None:
        """The batch is stored."""

    @abstractmethod
    async def finished(self, ranges: list[tuple[int, int]]) -> None:
        """The windows of these stream sequences are done."""

    @abstractmethod
    async def aclose(self, unread: list[Msg]) -> None:
        """Remove what the mode made for itself, and give back what it did not read."""


def check_identity(stream: StreamInfo, state: SourceState) -> None:
    """Compare the stream with the one that the state belongs to.

    Raises:
        StreamResetError: it is another one, or was rolled back.
    """
    name = stream.config.name
    if stream.created != state.stream_created:
        raise StreamResetError(
            f"stream {name!r} was deleted and made again: the position belongs to the stream made"
            f" at {state.stream_created}, this one was made at {stream.created}"
        )
    read = max([state.position, *(last for _, last in state.ahead)])
    if stream.state.last_seq < read:
        raise StreamResetError(
            f"stream {name!r} was rolled back: messages up to sequence {read} are stored, but the"
            f" stream ends at {stream.state.last_seq}"
        )


def start_of(source: JetStreamSource) -> dict[str, Any]:
    """The source's ``deliver`` as settings of a consumer."""
    deliver = source.deliver
    if isinstance(deliver, str):
        return {"deliver_policy": deliver}
    if isinstance(deliver, StartSequence):
        return after(deliver.seq - 1)
    return {"deliver_policy": "by_start_time", "opt_start_time": _rfc3339(deliver.time)}


def after(position: int) -> dict[str, Any]:
    """Settings of a consumer that starts behind a stream sequence."""
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": position + 1}


def _rfc3339(time: datetime) -> str:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
