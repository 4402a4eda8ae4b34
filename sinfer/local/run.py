"""The course of `sinfer run`: messages from a file, a pipe or JetStream, until none comes."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from sinfer.clock import ManualClock
from sinfer.errors import HookError, SourceError
from sinfer.hooks.call import Hook
from sinfer.local.task import LocalTask
from sinfer.nats.connection import connect
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.subjects import EVERYTHING
from sinfer.source.attachment import Attachment
from sinfer.source.config import JetStreamSource
from sinfer.source.source_partition import SourcePartition
from sinfer.types.message import Message

_LOOK_S = 0.2
"""How often the clock is looked at while nothing comes."""

Batches = AsyncIterator[Sequence[Message]]
"""Messages as they come; an empty batch from time to time while none does."""


async def run(task: LocalTask, batches: Batches) -> None:
    """Feed a task until its messages end, and close what is open then.

    With a ``ManualClock``, time follows the messages: what is due before one is done before it, at
    the time that it is due, and nobody waits. Otherwise windows close by the real time.

    Args:
        task: the task.
        batches: its messages.
    """
    virtual = isinstance(task.clock, ManualClock)
    async for batch in batches:
        if virtual:
            for message in batch:
                await task.advance_to(time_of(task, message))
                await task.feed([message])
                if task.is_over:
                    return
        else:
            await task.feed(batch)
            await task.tick()
        if task.is_over:
            return
    if virtual:
        await _run_out(task)
    await task.close_all("drain")
    while task.has_work and not task.is_over:  # what wants another try
        if virtual:
            await _run_out(task)
        else:
            await asyncio.sleep(_LOOK_S)
            await task.tick()


async def _run_out(task: LocalTask) -> None:
    """Let time pass until the clock has nothing more to do."""
    while (due_ms := task.next_ms) is not None and not task.is_over:
        await task.advance_to(due_ms)


def time_of(task: LocalTask, message: Message) -> int:
    """When a message happened, as the product says; where it does not, when it was stored."""
    stored_ms = message.timestamp_ns // 1_000_000 or task.clock.now_ms()
    if not task.pipeline.overrides("event_time"):
        return stored_ms
    pipeline = task.pipeline
    try:
        item = Hook("preprocess", "preprocess", pipeline.preprocess)(task.preview(message))
        if item is None:
            return stored_ms
        found = Hook("preprocess", "event_time", pipeline.event_time)(item)
        seconds = None if found is None else Hook("preprocess", "event_time", float)(found)
        return stored_ms if seconds is None else int(seconds * 1000)
    except (HookError, ValueError, OverflowError):  # it is told when the message is fed
        return stored_ms


async def from_file(messages: Iterable[Message], size: int) -> Batches:
    """Messages that are there at once."""
    batch: list[Message] = []
    for message in messages:
        batch.append(message)
        if len(batch) >= size:
            yield batch
            batch = []
    yield batch


async def from_pipe(messages: Iterable[Message]) -> Batches:
    """Messages that somebody writes, as with ``tail -f``. They are read in a thread."""
    queue = _read_in_a_thread(messages)
    while True:
        try:
            async with asyncio.timeout(_LOOK_S):
                found: Any = await queue.get()
        except TimeoutError:
            yield []
            continue
        if found is None:
            return
        if isinstance(found, Exception):
            raise found
        yield [found]


def _read_in_a_thread(messages: Iterable[Message]) -> asyncio.Queue[Message | Exception | None]:
    """Messages as they come; None at their end, or the error that ended them."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Message | Exception | None] = asyncio.Queue()

    def put(found: Message | Exception | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, found)

    def read() -> None:
        try:
            for message in messages:
                put(message)
        except Exception as error:
            put(error)
        else:
            put(None)

    threading.Thread(target=read, name="sinfer-stdin", daemon=True).start()
    return queue


async def from_jetstream(source: JetStreamSource, *, until_caught_up: bool) -> Batches:
    """Messages of a task's stream, read without leaving a trace.

    No durable is used and nothing is acknowledged, so that a deployment of the same task misses
    nothing. Streams with workqueue or interest retention cannot be read that way.

    Args:
        source: the source of the task.
        until_caught_up: end when all that is in the stream was read.

    Raises:
        SourceError: the stream is missing or cannot be read.
        UnavailableError: NATS cannot be reached.
    """
    client = await connect(source.place, name="sinfer-run")
    quiet = source.model_copy(update={"durable": None, "ack": "stored"})
    readers: list[Attachment] = []
    try:
        retention = (await JetStreamApi(client, source.stream).stream_info()).config.retention
        if retention != "limits":
            raise SourceError(
                f"stream {source.stream!r} has {retention} retention: to read a message would take"
                " it from the deployment; copy some into a file and use --input"
            )
        for subject in source.partition_subjects:
            name = f"run-{secrets.token_hex(4)}"
            reading = SourcePartition(quiet, subject or EVERYTHING, name)
            reader = await Attachment.open(client, reading)
            readers.append(reader)
        while True:
            came = False
            for reader in readers:
                batch = await reader.next_batch(source.batch, _LOOK_S / len(readers))
                if batch is not None:
                    came = True
                    yield batch.messages
            if not came:
                if until_caught_up and all([await reader.source.caught_up() for reader in readers]):
                    return
                yield []
    finally:
        for reader in readers:
            await reader.aclose()
        await client.close()


async def run_and_close(task: LocalTask, batches: Any) -> None:
    """As ``run``; sinks, client and connections are closed whatever happens."""
    try:
        async with aclosing(batches):
            await run(task, batches)
    finally:
        await task.aclose()
