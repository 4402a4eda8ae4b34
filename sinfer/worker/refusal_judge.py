"""Is it the items of a window that are refused, or is everything refused?

A model that is not ready yet, a changed schema, a sink that has lost its permission: they refuse
whatever comes, and each message would become a dead letter at full speed. So when all items of a
window are refused alike, and a few such windows came in a row with none taken between, the task is
paused. The windows whose turn it was then keep their messages; what was given up until then is
named in the reason.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from sinfer.store.boards.refusals import RefusalBoard, Streak
from sinfer.windows.dead_letters import Stage, one_line
from sinfer.worker.attempts import Attempt
from sinfer.worker.likeness import likeness
from sinfer.worker.ready_task import ReadyTask

WINDOWS = 3
"""So many windows in a row, refused whole and alike, make one ask whether everything is refused."""

ITEMS = 10
"""And so many items in them: a few single bad ones in a row are no outage."""

_SEEN_MS = 1000
"""Not before so long after the first of them: windows that are under way may be taken yet."""

_LONGEST_MS = 30_000
_AGAIN_MS = 1000
_MOST_TOLD = 10


@dataclass(frozen=True, slots=True)
class Held:
    """A refusal that does not stand yet.

    Attributes:
        why: the window waits.
        wait_ms: for so long.
        counts: whether the attempt counts.
    """

    why: str
    wait_ms: int
    counts: bool = False


SinkJudge: TypeAlias = Callable[[str, str], Awaitable[Held | None]]
"""Given a sink's label and what it says."""


class RefusalJudge:
    """Decides what a window is to do of which everything was refused.

    Args:
        ready: the task.
        board: what all workers have noted; None where there are no others.
        partition: of the windows.
        pause: pauses the task, with the reason.
    """

    def __init__(
        self,
        ready: ReadyTask,
        board: RefusalBoard | None,
        partition: str,
        pause: Callable[[str], Awaitable[None]],
    ) -> None:
        self._ready = ready
        self._board = board
        self._partition = partition
        self._pause = pause

    async def holds(
        self,
        attempt: Attempt,
        stage: Stage,
        reason: str,
        *,
        sink: str = "",
        items: int,
        began_s: float,
        is_sample: bool = False,
    ) -> Held | None:
        """What holds the refusal up; None when it stands, for the items to be given up.

        After a sample, standing means that each item has to be asked about.

        Args:
            attempt: of the window.
            stage: where it was refused.
            reason: why.
            sink: the label of the sink that refuses, where it is one.
            items: how many were refused.
            began_s: when the attempt to have them taken began, by the monotonic clock.
            is_sample: whether only some were asked about.
        """
        who = sink or {"inference": "the model"}.get(stage, f"build_{stage}")
        if self._board is None:
            if not self._ready.is_alone or items < 2:
                return None
            text = f"{who} refuses all {items} items of a window: {reason}"
            await self._pause(text)
            return Held(text, 0) if is_sample else None
        window = attempt.claim.window.public_id
        streak = await self._board.note(
            who, window, items=items, alike=likeness(stage, one_line(reason))
        )
        if streak.windows >= WINDOWS and streak.items >= ITEMS:
            seen_ms = 2 * round((time.monotonic() - began_s) * 1000)
            left_ms = min(_LONGEST_MS, max(_SEEN_MS, seen_ms)) - streak.age_ms
            self._ready.is_doubted_until_s = time.monotonic() + 2 * _AGAIN_MS / 1000
            if left_ms > 0:
                return Held(f"{who} may refuse everything: {reason}", left_ms + 10)
            text = await self._text(who, streak, reason)
            await self._pause(text)
            return Held(text, _AGAIN_MS)
        if is_sample and not streak.is_over and not attempt.is_last:
            return Held(f"{who} refuses all items that were tried: {reason}", 0, counts=True)
        if not streak.is_over:
            await self._board.note_dead(window, self._called(attempt, items))
        return None

    def _called(self, attempt: Attempt, items: int) -> str:
        sequences = [message.stream_seq for message in attempt.messages]
        return f"{self._partition} {min(sequences)}-{max(sequences)} ({items})"

    async def _text(self, who: str, streak: Streak, reason: str) -> str:
        assert self._board is not None
        dead = await self._board.dead()
        given_up = "no message was given up"
        if dead:
            more = f" and {len(dead) - _MOST_TOLD} more" if len(dead) > _MOST_TOLD else ""
            given_up = (
                f"dead letters until then: {', '.join(dead[:_MOST_TOLD])}{more};"
                " sinfer dlq redrive brings them back"
            )
        return (
            f"{who} refuses everything, {streak.windows} windows with {streak.items} items in a row"
            f" ({given_up}): {one_line(reason)[:300]}"
        )
