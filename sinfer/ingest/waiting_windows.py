"""What windows hold that are not done, and the acknowledgements that wait for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from sinfer.errors import UnavailableError
from sinfer.ingest.commit import Storing
from sinfer.ingest.dead_letter_gate import CopyGate
from sinfer.ingest.dead_letter_retention import DeadLetterCare
from sinfer.logging.troubles import PartitionTroubles
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.source import Source
from sinfer.store.durability import DurabilityBarrier
from sinfer.store.partition.unfinished_windows import Unfinished
from sinfer.store.partition.writer import PartitionWriter
from sinfer.types.message import Message


class WaitingWindows:
    """Looks at the windows from time to time, and with ``ack: done`` acknowledges what is done.

    Args:
        writer: of the partition.
        storing: knows how many closed windows wait.
        barrier: what acknowledgements pass.
        troubles: those of the partition.
        acks_when_done: whether messages are acknowledged when their windows are done.
        care: whether that waits for copies of their dead letters; it may find that it cannot.

    Attributes:
        looked_s: when that was done last, by the monotonic clock.
        bytes: payload in closed windows that are not done, as of the last look.
        unseen_bytes: payload that was stored since.
    """

    def __init__(
        self,
        writer: PartitionWriter,
        storing: Storing,
        barrier: DurabilityBarrier,
        troubles: PartitionTroubles,
        *,
        acks_when_done: bool,
        care: DeadLetterCare,
    ) -> None:
        self._writer = writer
        self._storing = storing
        self._barrier = barrier
        self._troubles = troubles
        self._acks_when_done = acks_when_done
        self._care = care
        self._copies = CopyGate()
        self._unfinished = Unfinished(0, None)
        self._stored_seq = 0
        self._acked_seq = 0
        self.looked_s = 0.0
        self.bytes = 0
        self.unseen_bytes = 0

    @property
    def is_acknowledged(self) -> bool:
        """Whether all that was stored is done, and acknowledged as such."""
        return self._acked_seq >= self._stored_seq

    def begin(self, state: Checkpoint) -> None:
        """The partition goes on from here."""
        self._stored_seq = max([state.position, *(last for _, last in state.ahead)])

    def stored(self, messages: Sequence[Message]) -> None:
        """These messages are in windows now, filtered out, or dead."""
        seqs = [message.stream_seq for message in messages]
        self._stored_seq = max(self._stored_seq, *seqs)
        self._acked_seq = min(self._acked_seq, min(seqs) - 1)

    async def look(self, source: Source, in_hand: Sequence[Message]) -> None:
        """See what waits, and acknowledge what is done where that is how the task wants it.

        Args:
            source: acknowledges.
            in_hand: messages that were read and are not stored yet.
        """
        self.looked_s = time.monotonic()
        self.unseen_bytes = 0
        try:
            self._storing.pending = await self._writer.pending()
            self._unfinished = await self._writer.unfinished(
                with_dead=self._acks_when_done and self._care.sends_copies,
            )
        except UnavailableError as error:
            self._troubles.tell("looking", f"what waits cannot be looked at: {error}")
            return
        self.bytes = self._unfinished.bytes
        self._troubles.over("looking")
        if self._acks_when_done:
            state = source.state.without([message.stream_seq for message in in_hand])
            finished_seq = self._finished_seq()
            done = state.read_through(finished_seq)
            done = self._copies.passing(finished_seq, done, self._unfinished)
            await self._barrier.pass_on(partial(source.done, done))
            if not self._copies.holds:
                self._acked_seq = finished_seq

    def _finished_seq(self) -> int:
        """Every message read up to this one is done: none is in an open or closed window.

        Which windows are open is for the store to say. The plan knows of some for too long, as beat
        closes them, and of others too briefly, as it lets go of them before beat closes them.
        """
        held_seq = self._unfinished.first_seq
        return self._stored_seq if held_seq is None else held_seq - 1
