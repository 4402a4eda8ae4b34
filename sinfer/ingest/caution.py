"""How carefully messages are given to a product's code, after writers of the partition have died.

A writer that ends without giving its partition back may have been killed by a message: a hook that
crashes takes the process with it, and so does the next, forever. A message is suspected in steps:

- No death: nothing is noted, which costs nothing.
- One: what is about to be given to the product's code is noted in the store before, for a while.
- Two, and the last writer had noted something: just that is looked at in another process, whose
  end harms nobody. Whoever ends it becomes a dead letter, and those behind it are looked at so for
  a while, since such messages often come in numbers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sinfer.ingest.entries import Preparing
from sinfer.ingest.isolation import CarefulPreparer
from sinfer.ingest.work_in_hand import SUSPECTED, pack_hand, unpack_hand
from sinfer.source.checkpoint import Checkpoint
from sinfer.store.partition.partition_state import PartitionState
from sinfer.store.partition.writer import PartitionWriter
from sinfer.types.message import Message

_log = logging.getLogger(__name__)

_PART = 64
"""Most messages that are noted at once."""

_MORE = 10_000
"""So many stream sequences behind a message that ended a process are looked at with care too."""

_WATCH_S = 60.0
"""How long to note what is in hand at least: what killed is read again at once."""


class Caution:
    """Decides how each part of a batch is prepared.

    Args:
        writer: of the partition.
        careful: prepares in another process.
        state: what the last writer left.
        batch: most messages that were in its hands.

    Attributes:
        is_needed: whether parts are to be chosen here.
    """

    def __init__(
        self, writer: PartitionWriter, careful: CarefulPreparer, state: PartitionState, batch: int
    ) -> None:
        self._writer = writer
        self._careful = careful
        self._batch = batch
        self.is_needed = state.deaths > 0
        self._since_s = time.monotonic()
        self._watched = 0
        self._suspects = self._suspected(state)
        self._killed = 0
        if state.deaths:
            _log.warning(
                "%s: its last writer ended without giving it back (%d in a row)%s",
                writer.scope, state.deaths, self._text(),
            )  # fmt: skip

    def _suspected(self, state: PartitionState) -> tuple[int, int] | None:
        """What was in hand at two deaths and was not stored since."""
        noted = unpack_hand(state.hand)
        if state.deaths < SUSPECTED or noted is None:
            return None
        if state.source and Checkpoint.decode(state.source).position >= noted[1]:
            return None
        return noted

    def _text(self) -> str:
        if self._suspects is None:
            return ""
        return (
            f" while messages from stream sequence {self._suspects[0]} to {self._suspects[1]} were"
            " in hand: these are looked at one by one, in a process of their own"
        )

    async def choose(
        self, messages: Sequence[Message]
    ) -> tuple[Sequence[Message], Preparing | None]:
        """The messages to prepare next, from the first, and how: None for as usual.

        Raises:
            StaleTokenError, UnavailableError: what is in hand cannot be noted.
        """
        if not messages:
            return messages, None
        place = 0
        wants_care = self._wants_care(messages[0])
        part = min(len(messages), _PART)
        while place < part and self._wants_care(messages[place]) == wants_care:
            place += 1
        chosen = messages[:place]
        if wants_care:
            return chosen, self._careful.prepare
        seqs = [message.stream_seq for message in chosen]
        await self._writer.note_hand(pack_hand(min(seqs), max(seqs)), 0)
        return chosen, None

    def _wants_care(self, message: Message) -> bool:
        suspects = self._suspects
        return suspects is not None and suspects[0] <= message.stream_seq <= suspects[1]

    async def stored(self, messages: Sequence[Message], position: int) -> None:
        """These were prepared as they were chosen, and are stored.

        Args:
            messages: in the order of the stream.
            position: how far the partition is stored.
        """
        if self._careful.killed > self._killed and messages:
            self._killed = self._careful.killed
            first = messages[-1].stream_seq + 1
            last = max(first + _MORE - 1, 0 if self._suspects is None else self._suspects[1])
            # Noted, so that whoever goes on with the partition has the same suspicion.
            await self._writer.note_hand(pack_hand(first, last), SUSPECTED)
            self._suspects = first, last
        self._watched += len(messages)
        if self._suspects is not None and position >= self._suspects[1]:
            self._suspects = None
            if not self._killed:
                _log.info("%s: no message in hand at the deaths ended a process", self._scope)
        if self._suspects is not None:
            return
        lasted_s = time.monotonic() - self._since_s
        if self._killed or (self._watched >= self._batch and lasted_s >= _WATCH_S):
            await self._forget()

    async def quiet(self) -> None:
        """Nothing is left to read: what was in hand at a death was stored since, or is gone."""
        if time.monotonic() - self._since_s >= _WATCH_S:
            await self._forget()

    async def _forget(self) -> None:
        await self._writer.note_hand(b"", 0)
        self.is_needed = False
        self._suspects = None
        await self._careful.release()
        _log.info("%s: goes on as usual", self._scope)

    @property
    def _scope(self) -> str:
        return str(self._writer.scope)
