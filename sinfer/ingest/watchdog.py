"""What an ingestor does even while its event loop does nothing: a thread that keeps its leases,
gives its sign of life, says which hook holds it up, and ends the process when it does for too long.

Product code runs on the event loop. A hook that takes its time holds up all partitions of the
process; it must not cost them their leases as well, or two ingestors take them from each other and
neither gets anywhere. A process that is stopped as a whole (SIGSTOP) still loses them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Protocol, cast

from sinfer import exit_codes
from sinfer.errors import StoreError, UnavailableError
from sinfer.hooks import call as hooks
from sinfer.ingest.leases import Leaseholder, LeaseKeeper
from sinfer.ingest.work_in_hand import SUSPECTED, Hand, pack_hand
from sinfer.store.boards.ingestors import Membership
from sinfer.store.boards.task_reports import TaskReport, TaskReporter
from sinfer.store.connection import Store
from sinfer.store.partition.writer_lease import give_leases_back, note_hand

_log = logging.getLogger(__name__)

_PERIOD_S = 0.5
_TELL_S = 2.0
"""A loop that is held up for longer is told of."""

_STOPPED_S = 15.0
"""Nothing that this thread does takes so long: the whole process was stopped, or its machine."""

_SIGN_S = 1.0
LONGEST_S = 60.0
"""A loop that is held up for longer by something without a limit of its own ends the process."""

_BACKSTOP_S = 30.0
"""How much later the process ends even if nothing in Python gets to run any more."""


class Calling(Leaseholder, Protocol):
    """A leaseholder that calls a product's code.

    Attributes:
        hand: what the code works on at the moment.
        hand_seqs: least and greatest stream sequence of what it may work on.
        hook_timeout_s: how long it may take for one message, seconds.
    """

    hand: Hand
    hand_seqs: tuple[int, int]
    hook_timeout_s: float


@dataclass(slots=True)
class _Held:
    """What holds the loop up.

    Attributes:
        text: what to say of it.
        since_s: since when, by the monotonic clock.
        limit_s: how long it may.
        holder: whose code it is, where that is known.
        seqs: which messages it works on.
    """

    text: str
    since_s: float
    limit_s: float = LONGEST_S
    holder: Leaseholder | None = None
    seqs: tuple[int, int] = (0, 0)


class Lifeline:
    """Start it from the event loop that it watches, and call ``aclose`` at the end.

    Args:
        store: the window store, for this thread alone; closed at the end.
        leases: made with the same store.
        membership: made with the same store.
        reporter: made with the same store; tells what holds the loop up.
        is_process: whether the process may be ended; then it ends, with a trace, even where no
            Python code gets to run any more, as when a C extension never returns and never lets
            go of the interpreter.
    """

    def __init__(
        self,
        store: Store,
        leases: LeaseKeeper,
        membership: Membership,
        reporter: TaskReporter,
        *,
        is_process: bool = False,
    ) -> None:
        self._store = store
        self._leases = leases
        self._membership = membership
        self._reporter = reporter
        self._is_process = is_process
        self._beat_s = 0.0
        self._signed_s = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._beating: asyncio.Task[None] | None = None
        self._main = 0
        self._seen: tuple[int, int, float] = (0, 0, 0.0)
        self._stepped_s = 0.0
        self._resumed_s = 0.0

    def start(self) -> None:
        """Begin; the event loop that runs here is the one to watch."""
        loop = asyncio.get_running_loop()
        self._leases.tell = loop.call_soon_threadsafe
        self._main = threading.get_ident()
        self._beat_s = self._stepped_s = time.monotonic()
        self._beating = asyncio.create_task(self._beat())
        self._thread = threading.Thread(target=self._run, name="lifeline", daemon=True)
        self._thread.start()

    async def aclose(self) -> None:
        """End the thread and close its store."""
        self._stopping.set()
        if self._beating is not None:
            self._beating.cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    async def _beat(self) -> None:
        while True:
            self._beat_s = time.monotonic()
            await asyncio.sleep(_PERIOD_S)

    # --- on the thread ---

    def _run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    await self._step()
                except (UnavailableError, StoreError) as error:
                    _log.debug("lifeline: %s", error)
                except Exception:
                    _log.exception("lifeline: goes on after an error of its own")
                await asyncio.sleep(_PERIOD_S)
                self._notice_stop()
        finally:
            if self._is_process:
                faulthandler.cancel_dump_traceback_later()
            with suppress(UnavailableError, StoreError):
                await self._reporter.tell(TaskReport())
            await self._store.aclose()

    def _notice_stop(self) -> None:
        """Blame nobody for the time in which nobody could do anything."""
        now_s = time.monotonic()
        if now_s - self._stepped_s > _STOPPED_S:
            self._resumed_s = now_s
            self._beat_s = max(self._beat_s, now_s)
            self._seen = (0, 0, 0.0)
        self._stepped_s = now_s

    async def _step(self) -> None:
        await self._leases.renew()
        self._notice_stop()
        now_s = time.monotonic()
        held_s = now_s - self._beat_s
        held = self._held(now_s) if held_s > _TELL_S else None
        if self._is_process:
            limits = [one.hook_timeout_s for one in self._calling()]
            faulthandler.dump_traceback_later(max([LONGEST_S, *limits]) + _BACKSTOP_S, exit=True)
        if held is None:
            await self._reporter.tell(TaskReport())
            return
        if self._is_process and now_s - held.since_s > held.limit_s:
            await self._end(held, now_s)
            return
        if now_s - self._signed_s > _SIGN_S:
            self._signed_s = now_s
            await self._membership.sign()
            scope = "" if held.holder is None else str(held.holder.writer.scope)
            text = f"{held.text}, for {now_s - held.since_s:.0f} s now"
            await self._reporter.tell(TaskReport(blocked={scope: text}))

    def _calling(self) -> list[Calling]:
        holders = self._leases.holders
        return [cast("Calling", one) for one in holders if hasattr(one, "hook_timeout_s")]

    def _held(self, now_s: float) -> _Held | None:
        """What holds the loop up; None when it goes on."""
        for holder in self._calling():
            if holder.hand.since_s:
                return self._of_hand(holder, holder.hand, holder.hand_seqs, holder.hook_timeout_s)
        since_s = self._beat_s
        for call in hooks.running():
            if call.blocks == self._main:
                text = f"{call.hook} of {call.task or 'the product'} does not return"
                return _Held(text, max(call.blocks_since_s, self._resumed_s))
        if now_s - since_s <= _TELL_S:
            return None
        frame = sys._current_frames().get(self._main)
        return _Held(f"the event loop is held up{_place(frame)}", since_s)

    def _of_hand(
        self, holder: Leaseholder, hand: Hand, seqs: tuple[int, int], limit_s: float
    ) -> _Held | None:
        message, hook, since_s = hand.message, hand.hook, hand.since_s
        if not since_s:
            return None
        text = f"{hook} does not return"
        if message is not None:
            seqs = (message.stream_seq, message.stream_seq)
            text += f" for the message of stream sequence {message.stream_seq}"
            # A slice of messages began earlier than the one that it stops at.
            one, seq, first_seen_s = self._seen
            if (one, seq) != (id(message), message.stream_seq):
                first_seen_s = max(since_s, time.monotonic() - _PERIOD_S)
                self._seen = (id(message), message.stream_seq, first_seen_s)
            since_s = first_seen_s
        return _Held(text, max(since_s, self._resumed_s), limit_s, holder, seqs)

    async def _end(self, held: _Held, now_s: float) -> None:
        """The loop will not come back: let others go on, and begin again."""
        trace = "".join(traceback.format_stack(sys._current_frames().get(self._main))).rstrip()
        whose = "" if held.holder is None else f"{held.holder.writer.scope}: "
        _log.critical(
            "%s%s, for %.0f s (at most %.0f s); the process ends, to go on without it:\n%s",
            whose, held.text, now_s - held.since_s, held.limit_s, trace,
        )  # fmt: skip
        holders = self._leases.holders
        with suppress(UnavailableError, StoreError):
            if held.holder is not None:
                hand = pack_hand(*held.seqs)
                await note_hand(self._store, held.holder.writer, hand, SUSPECTED)
            await give_leases_back(self._store, [one.writer for one in holders])
            await self._reporter.tell(TaskReport())
        logging.shutdown()
        os._exit(exit_codes.FAILED)


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f" in {frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
