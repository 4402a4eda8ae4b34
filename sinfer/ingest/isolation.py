"""Preparing messages that may end a process, in a process of their own, one after the other."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec

from sinfer.errors import InvalidItemError, SinferError
from sinfer.hooks.call import describe
from sinfer.ingest.entries import Prepared, Preparer
from sinfer.ingest.isolated_process import Answer, Request, receive, send
from sinfer.ingest.windower import Refusals
from sinfer.products.pipeline import InferPipeline
from sinfer.products.task import InferTaskConfig
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.plan import Entry
from sinfer.windows.planner import CloseWhen, WindowStats

_log = logging.getLogger(__name__)

_START_S = 300.0
"""How long the process may take to load the product."""

_MOST_KILLED = 25
"""Messages in a row that ended their process and were given up; then they are not to blame."""

_GATHER_S = 0.5
"""What was prepared in so long is stored before more is."""


_ENDED, _HUNG = "ended its process", "did not return"


def ended_a_process(reason: str) -> bool:
    """Whether a dead letter's reason is that its message ended a process, or had to be ended."""
    _, _, what = reason.partition(": ")
    return what.startswith((_ENDED, _HUNG))


class CarefulError(SinferError):
    """Messages that may end a process cannot be looked at in one of their own."""


class Killed(Exception):
    """The process ended, or had to be ended, while it looked at a message."""


class RemoteItem:
    """Stands for an item that no product code of this process has seen."""

    __slots__ = ("_careful", "_message", "_now_ms")

    def __init__(self, careful: CarefulPreparer, message: Message, now_ms: int) -> None:
        self._careful = careful
        self._message = message
        self._now_ms = now_ms

    def closes(self, window: WindowStats) -> bool:
        """What the product's ``close_when`` says of it.

        Raises:
            InvalidItemError: it failed, or ended its process.
        """
        return self._careful.closes(self._message, self._now_ms, window)


def asking_with_care(close_when: CloseWhen) -> CloseWhen:
    """The trigger, which is asked in the other process of items that live there."""

    def ask(window: WindowStats, item: Any) -> bool:
        return item.closes(window) if type(item) is RemoteItem else close_when(window, item)

    return ask


class CarefulPreparer:
    """Does what ``Preparer`` does. What ends the process becomes a dead letter with the reason.

    Args:
        kind: class of the product's pipeline, which is made in the other process.
        task: for which task.
        name: of the partition, for the log.
        refusals: of the partition.

    Attributes:
        killed: how many messages ended the process.
    """

    def __init__(
        self,
        kind: type[InferPipeline[Any, Any]],
        task: InferTaskConfig,
        name: str,
        refusals: Refusals | None = None,
    ) -> None:
        self._kind = kind
        self._task = task
        self._timeout_s = task.limits.hook_timeout.total_seconds()
        self._name = name
        self._refusals = refusals or Refusals()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._answered = 0
        self._using = threading.Lock()
        self._is_closed = False
        self._decoder = msgspec.msgpack.Decoder(Answer)
        self.killed = 0

    async def prepare(self, messages: Sequence[Message], now_ms: int) -> Prepared:
        """Make entries of the first messages, as many as can be done in a moment.

        Raises:
            CarefulError: the product cannot be loaded in another process.
        """
        return await asyncio.to_thread(self._prepare, messages, now_ms)

    def closes(self, message: Message, now_ms: int, window: WindowStats) -> bool:
        """What ``close_when`` says of a message; see ``RemoteItem``."""
        shape = (window.count, window.bytes, window.start_ms, window.end_ms)
        try:
            answer = self._ask(Request(message, now_ms, shape))
        except Killed as error:
            self.killed += 1
            raise InvalidItemError(str(error)) from None
        if answer.kind == "dead":
            raise InvalidItemError(answer.error.removeprefix("close_when: "))
        return answer.closes

    async def try_out(self) -> None:
        """Load the product in the other process.

        Raises:
            CarefulError: that does not work.
        """
        await asyncio.to_thread(self._try_out)

    async def release(self) -> None:
        """End the process, which is not needed at the moment."""
        await asyncio.to_thread(self._release)

    def close(self) -> None:
        """End the process, whatever it does at the moment. May be called from any thread."""
        self._is_closed = True
        process = self._process
        if process is not None:
            process.kill()

    # --- on a thread of its own ---

    def _prepare(self, messages: Sequence[Message], now_ms: int) -> Prepared:
        prepared = Prepared()
        until_s = time.monotonic() + _GATHER_S
        for message in messages:
            try:
                answer = self._ask(Request(message, now_ms))
                self._refusals.killed_in_a_row = 0
            except Killed as error:
                if self._refusals.killed_in_a_row >= _MOST_KILLED:
                    if prepared.count:
                        break
                    raise CarefulError(
                        f"{self._name}: one message after the other ends its process ({error}), so"
                        " no more of them are given up: the product, or what it loads, seems to be"
                        f" broken; next is stream sequence {message.stream_seq}"
                    ) from None
                self._refusals.killed_in_a_row += 1
                self.killed += 1
                answer = Answer("dead", f"preprocess, key or event_time: {error}")
                _log.error(
                    "%s: the message of stream sequence %d became a dead letter: %s",
                    self._name, message.stream_seq, answer.error,
                )  # fmt: skip
            prepared.count += 1
            if answer.kind == "dead":
                prepared.dead.append(DeadLetter(message, "preprocess", answer.error, now_ms))
            elif answer.kind == "filtered":
                prepared.filtered += 1
            else:
                item = RemoteItem(self, message, now_ms)
                prepared.entries.append(Entry(message, answer.key, answer.time_ms, item))
            if time.monotonic() >= until_s:
                break
        return prepared

    def _ask(self, request: Request) -> Answer:
        """Have the process look at a message; where it ends, look once more in a new one.

        What a message before it has broken is not its fault: only one that was the first that a
        process saw is known to be the cause.

        Raises:
            Killed: the message ends the process, or the process takes too long for it.
        """
        with self._using:
            while True:
                connection = self._connected()
                is_first = self._answered == 0
                try:
                    send(connection, msgspec.msgpack.encode(request))
                    body = receive(connection)
                except TimeoutError:
                    self._end(patience_s=0.0)
                    raise Killed(
                        f"{_HUNG} within {self._timeout_s:g} s (limits.hook_timeout)"
                    ) from None
                except OSError:
                    body = None
                if body is not None:
                    self._answered += 1
                    return self._decoder.decode(body)
                reason = self._end()
                if self._is_closed:
                    raise CarefulError(f"{self._name}: told to stop")
                if is_first:
                    raise Killed(f"{_ENDED}: {reason}")

    def _connected(self) -> socket.socket:
        if self._connection is not None:
            return self._connection
        if self._is_closed:
            raise CarefulError(f"{self._name}: told to stop")
        try:
            blob = pickle.dumps((self._kind, self._task))
        except Exception as error:
            raise CarefulError(
                f"{self._name}: the product seems to end the process, and cannot be handed to one"
                f" of its own ({describe(error)}): make its pipeline and task classes importable"
            ) from error
        mine, other = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sinfer.ingest.isolated_process", str(other.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[other.fileno()],
            )
        except OSError as error:
            mine.close()
            raise CarefulError(f"{self._name}: no process can be started: {error}") from error
        finally:
            other.close()
        self._connection, self._answered = mine, 0
        mine.settimeout(_START_S)
        try:
            send(mine, json.dumps(sys.path).encode())
            send(mine, blob)
            body = receive(mine)
        except TimeoutError:
            self._end()
            raise CarefulError(
                f"{self._name}: the product does not load within {_START_S:g} s in a process of"
                " its own"
            ) from None
        except OSError:
            body = None
        answer = Answer("failed") if body is None else self._decoder.decode(body)
        if answer.kind != "ready":
            reason = self._end()
            raise CarefulError(
                f"{self._name}: the product cannot be loaded in a process of its own:"
                f" {answer.error or reason}"
            )
        if self._is_closed:
            self._end(patience_s=0.0)
            raise CarefulError(f"{self._name}: told to stop")
        mine.settimeout(self._timeout_s)
        return mine

    def _end(self, patience_s: float = 1.0) -> str:
        """End the process if it has not ended itself; returns how it ended."""
        connection, self._connection = self._connection, None
        process, self._process = self._process, None
        if connection is not None:
            connection.close()
        if process is None:
            return ""
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)  # it may be writing its core
        process.kill()
        return _how(process.wait())

    def _try_out(self) -> None:
        with self._using:
            self._connected()

    def _release(self) -> None:
        with self._using:
            if self._process is not None:
                self._process.kill()
            self._end()


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name


async def look_at(
    pipeline: InferPipeline[Any, Any], message: Message, now_ms: int, *, name: str
) -> Prepared:
    """Prepare one message as a command does: what would end the process ends another one first.

    Args:
        pipeline: the product's code, made for the task.
        message: the message.
        now_ms: the store's clock, milliseconds since the epoch.
        name: of the partition, for the log.
    """
    careful = CarefulPreparer(type(pipeline), pipeline.task, name)
    try:
        prepared = await careful.prepare([message], now_ms)
        if careful.killed:
            return prepared
    except CarefulError as error:  # as of a product that no other process can import
        _log.debug("%s", error)
    finally:
        await careful.release()
    return Preparer(pipeline).prepare([message], now_ms)
