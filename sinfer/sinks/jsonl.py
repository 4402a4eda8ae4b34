"""The jsonl sink: one JSON object a line, appended to a file."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from sinfer.encoding import to_json
from sinfer.errors import SinkUnavailableError
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.types.check import Checked
from sinfer.types.result import Confirmed, WindowResults

_PLACEHOLDER = re.compile(r"\{[^}]*\}?")


class JsonlSink(Sink):
    """Appends results to a file that any number of processes may append to.

    A line is ``{"idempotency_key", "product", "task", "key", "window_id", "ordinal", "revision",
    "result"}``.
    A window's lines are appended together. A file cannot be asked what it holds: a window that is
    written again, after a crash say or by hand, repeats its lines. Readers keep the last line of
    each ``idempotency_key``, and of each window the lines of its highest ``revision``.

    The file is opened for each window, so that it may be rotated at any time.
    """

    type = "jsonl"

    class Config(SinkConfig):
        """Settings of the jsonl sink."""

        type: Literal["jsonl"] = "jsonl"
        path: str
        """The file; ``{task}`` stands for the id of the task. Missing directories are made."""
        fsync: bool = False
        """Have each window on the disk before it counts as written: slower, survives power loss."""

        @field_validator("path")
        @classmethod
        def _placeholders(cls, value: str) -> str:
            if not value.strip():
                raise ValueError("is the path of a file")
            unknown = [found for found in _PLACEHOLDER.findall(value) if found != "{task}"]
            if unknown:
                raise ValueError(f"{unknown[0]!r} is unknown; only {{task}} can be filled in")
            return value

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._path: str = config.path
        self._fsync: bool = config.fsync

    async def write(self, results: WindowResults) -> Confirmed:
        if not results.rows:
            return Confirmed()
        path = Path(self._path.replace("{task}", results.task))
        try:
            await asyncio.to_thread(_append, path, _lines(results), self._fsync)
        except OSError as error:
            raise SinkUnavailableError(f"cannot append to {path}: {error.strerror}") from error
        return Confirmed(new=len(results))

    async def check(self) -> list[Checked]:
        return await asyncio.to_thread(_checked, Path(self._path))


def _checked(path: Path) -> list[Checked]:
    """Whether a file can be appended to, or made with its directories."""
    there = next(found for found in (path, *path.absolute().parents) if found.exists())
    if there.is_dir() == (there == path) or not os.access(there, os.W_OK):
        text = f"{there} cannot be written to; correct it, or give this user the right"
        return [Checked("error", text, "path")]
    return [Checked("ok", f"{there} can be written to")]


def _lines(results: WindowResults) -> bytes:
    """The window as lines; results are JSON already and go in as they are."""
    product, task = to_json(results.product), to_json(results.task)
    key, window = to_json(results.key), to_json(results.window_id)
    return b"".join(
        b'{"idempotency_key":%b,"product":%b,"task":%b,"key":%b,"window_id":%b,"ordinal":%d,'
        b'"revision":%d,"result":%b}\n'
        % (
            to_json(results.idempotency_key(row)), product, task, key, window,
            row.ordinal, results.revision, row.data,
        )
        for row in results
    )  # fmt: skip


def _append(path: Path, lines: bytes, fsync: bool) -> None:
    """Append all of the lines or, when the disk refuses some, none.

    Raises:
        OSError: the file cannot be opened or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        # A process that died in the middle of a line left no line end.
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            if fsync:
                os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
