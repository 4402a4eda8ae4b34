"""The program of the process in which a product's code looks at messages that may end a process.

It is given a socket, and on it the pipeline's class and the task, then requests one after the
other. It is stateless: each request holds the message it is about.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import pickle
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from sinfer.hooks.call import describe
from sinfer.types.message import Message

_LENGTH = struct.Struct("!I")
_PR_SET_PDEATHSIG = 1


class Request(msgspec.Struct, array_like=True, frozen=True):
    """What is to be done.

    Attributes:
        message: the message.
        now_ms: the store's clock, milliseconds since the epoch.
        window: count, bytes, start and end of a window: ask ``close_when`` of it; otherwise
            prepare the message.
    """

    message: Message
    now_ms: int
    window: tuple[int, int, int | None, int | None] | None = None


class Answer(msgspec.Struct, array_like=True, frozen=True):
    """What came of it.

    Attributes:
        kind: what became of the message; ``ready`` and ``failed`` are said once, at the start.
        error: why it died, or why the product's code cannot be used.
        key: of the entry.
        time_ms: of the entry, milliseconds since the epoch.
        closes: what ``close_when`` said.
    """

    kind: Literal["ready", "failed", "entry", "filtered", "dead"]
    error: str = ""
    key: str = ""
    time_ms: int = 0
    closes: bool = False


def send(connection: socket.socket, body: bytes) -> None:
    """Send one piece."""
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> bytes | None:
    """The next piece; None at the end.

    Raises:
        TimeoutError: it did not come within the socket's time-out.
    """
    head = _exactly(connection, _LENGTH.size)
    return None if head is None else _exactly(connection, _LENGTH.unpack(head)[0])


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    parts = []
    while size:
        part = connection.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _go_first() -> None:
    """End with the parent, and before it where memory runs out; both on Linux alone."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(preparer: Any, pipeline: Any, request: Request) -> Answer:
    from sinfer.windows.planner import WindowStats

    prepared = preparer.prepare([request.message], request.now_ms)
    if prepared.dead:
        return Answer("dead", prepared.dead[0].error)
    if prepared.filtered:
        return Answer("filtered")
    [entry] = prepared.entries
    closes = False
    if request.window is not None:
        try:
            closes = bool(pipeline.close_when(WindowStats(*request.window), entry.item))
        except BaseException as error:  # a product's own code
            return Answer("dead", f"close_when: {describe(error)}")
    return Answer("entry", "", entry.key, entry.time_ms, closes)


def _serve(connection: socket.socket) -> None:
    head = receive(connection)
    blob = receive(connection)
    if head is None or blob is None:
        return
    try:
        sys.path[:] = json.loads(head)
        from sinfer.hooks.call import made
        from sinfer.ingest.entries import Preparer

        make, task = pickle.loads(blob)
        pipeline = made("the pipeline", make, task)
        preparer = Preparer(pipeline)
    except BaseException as error:  # a product's own code
        send(connection, msgspec.msgpack.encode(Answer("failed", describe(error))))
        return
    send(connection, msgspec.msgpack.encode(Answer("ready")))
    decoder = msgspec.msgpack.Decoder(Request)
    while (body := receive(connection)) is not None:
        answer = _answer(preparer, pipeline, decoder.decode(body))
        send(connection, msgspec.msgpack.encode(answer))


def main() -> None:
    """Serve the socket whose number is the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to act on
    faulthandler.enable()
    _go_first()
    with socket.socket(fileno=int(sys.argv[1])) as connection:
        _serve(connection)


if __name__ == "__main__":
    main()
