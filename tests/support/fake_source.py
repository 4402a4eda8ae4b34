"""A source that gives what a test tells it to, and an attachment that restores it at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import cast

from sinfer.source.attachment import Attachment
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.source import IDLE, Idle, Lost, Source, Terms, Withheld
from sinfer.types.message import Message

Step = Batch | Idle | Lost


class FakeSource(Source):
    """Gives one step after the other, then nothing any more.

    Attributes:
        events: what was asked of it, in order: ``next``, ``ack 1-3``, ``restore``, ``done``.
        at_end: is called when all steps are given.
        is_caught_up: what ``caught_up`` says.
        waits_s: how long ``next`` was to wait, seconds.
    """

    def __init__(self, steps: Sequence[Step], at_end: Callable[[], object]) -> None:
        self.terms = Terms("fake")
        self.events: list[str] = []
        self.at_end = at_end
        self.is_caught_up = True
        self.waits_s: list[float] = []
        self._steps = deque(steps)
        self._state = Checkpoint("fake", 0)

    async def next(self, max_messages: int, timeout_s: float) -> Batch | Idle | Lost:
        self.waits_s.append(timeout_s)
        self.events.append("next")
        if not self._steps:
            self.at_end()
            return IDLE
        step = self._steps.popleft()
        if isinstance(step, Idle):
            await asyncio.sleep(timeout_s)
        if isinstance(step, Batch):
            self._state = step.state
        return step

    def batch(self, *payloads: bytes, first_seq: int = 1) -> Batch:
        """A batch whose ack is noted."""
        messages = [
            Message(data, "s", None, seq, 1) for seq, data in enumerate(payloads, first_seq)
        ]
        last_seq = first_seq + len(messages) - 1

        async def ack() -> None:
            self.events.append(f"ack {first_seq}-{last_seq}")

        return Batch(messages, Checkpoint("fake", last_seq), ack=ack)

    def give(self, *steps: Step) -> None:
        """Give these as well."""
        self._steps.extend(steps)

    async def attach(self) -> None:
        self.events.append("attach")

    @property
    def state(self) -> Checkpoint:
        return self._state

    def wake(self) -> None:
        """Nothing waits here for long."""

    async def done(self, ranges: list[tuple[int, int]]) -> None:
        self.events.append(f"done {ranges}")

    async def caught_up(self) -> bool:
        return self.is_caught_up

    async def withheld(self) -> Withheld | None:
        return None

    async def aclose(self) -> None:
        self.events.append("close")


class FakeAttachment:
    """Holds a fake source; what is lost is restored at once."""

    def __init__(self, source: FakeSource) -> None:
        self.source = source

    async def restore(self, lost: Lost, timeout_s: float) -> None:
        self.source.events.append(f"restore: {lost.reason}")

    def wake(self) -> None:
        self.source.wake()


def attached(source: FakeSource) -> Attachment:
    """The source as the loop of a partition takes it."""
    return cast("Attachment", FakeAttachment(source))
