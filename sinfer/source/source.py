"""Where the messages of a partition come from: one call after the other, each message once.

There are two: ``position.py`` reads without acknowledgements, by what the store says, and
``durable.py`` reads through a durable consumer. ``choice.py`` chooses, ``attachment.py`` opens a
source and attaches it again when it says that it is lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing came for as long as was asked for, or the source was woken."""


IDLE = Idle()


@dataclass(frozen=True, slots=True, eq=False)
class Lost:
    """What was asked for may not come: the source has to be attached again.

    Attributes:
        reason: for the log.
    """

    reason: str


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


@dataclass(slots=True)
class Terms:
    """How a partition is read, and what was found when that began.

    Attributes:
        text: how, and why so; one line for the log.
        acknowledges: whether the server is told what was stored or done, and may then forget it.
        risks: what of the source's settings may lose messages or have them come again.
        consumer: the durable that nobody else may read; see ``store.boards.consumers``. Empty
            where there is none.
        start: the number of the partition's start; see ``store.partition.incarnation``.
        max_ack_pending: how many messages may be unacknowledged at once; None for any number.
            With ``ack: done`` the server stops delivering at this number, so all open and
            unfinished windows of the partition together must hold fewer messages.
        starts_over: whether messages were read before of which the store knows nothing, as after
            Redis was wiped. Those that were not acknowledged come again, the others do not.
        repeats_to: where it starts over, messages up to this stream sequence were read before.
    """

    text: str
    acknowledges: bool = True
    risks: tuple[str, ...] = ()
    consumer: str = ""
    start: int = 0
    max_ack_pending: int | None = None
    starts_over: bool = False
    repeats_to: int = 0


class Source(ABC):
    """Reads a partition from a stored state on; see the module.

    What ``next`` returned counts as read: a caller that fails to store a batch closes the source
    and opens another from the stored state.

    Attributes:
        terms: how it reads; complete once it was attached.
    """

    terms: Terms

    @abstractmethod
    async def next(self, max_messages: int, timeout_s: float) -> Batch | Idle | Lost:
        """Read what has arrived, or wait for it.

        A batch holds what is there at once: it does not wait to become full.

        Args:
            max_messages: most messages in the batch.
            timeout_s: how long to wait for the first message, seconds.

        Raises:
            SourceError: the source cannot be read any more.
            UnavailableError: the connection is closed for good.
        """

    @abstractmethod
    async def attach(self) -> None:
        """Make sure that the consumer exists and that the stream is still the same.

        Raises:
            SourceError: the source cannot be read any more; the text names stream, consumer, field
                and remedy.
            StreamResetError: the stream was made again or rolled back.
            UnavailableError: not now.
        """

    @property
    @abstractmethod
    def state(self) -> Checkpoint:
        """How far the partition was read: the state of the last batch."""

    @abstractmethod
    def wake(self) -> None:
        """Have ``next`` return soon, whether or not anything came."""

    @abstractmethod
    async def done(self, ranges: list[tuple[int, int]]) -> None:
        """The windows of these messages are done: acknowledge them, with ``ack: done``.

        Args:
            ranges: inclusive ranges of stream sequences. Every message of the partition within
                them is done, filtered out or dead-lettered. To tell the same again is harmless; a
                new source is to be told all that is done, because acknowledgements that the last
                one sent may have been lost.
        """

    @abstractmethod
    async def caught_up(self) -> bool:
        """Whether everything that is in the stream for this partition was read.

        Asks the server, so that no stale number is trusted: nothing is buffered here, nothing on
        its way, nothing unread waits for redelivery, and nothing is left in the stream.
        """

    @abstractmethod
    async def withheld(self) -> Withheld | None:
        """What the server keeps back, since ``max_ack_pending`` messages are unacknowledged.

        Returns:
            None when nothing is kept back, or that is not known.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Stop reading and remove what was made for it; the connection stays open.

        Messages of a durable consumer that were not stored are given back, so that the next reader
        has them at once.
        """
