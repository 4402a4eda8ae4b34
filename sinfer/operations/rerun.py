"""Running a finished window again: the same messages, the same id, results that replace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from nats.aio.client import Client

from sinfer.errors import SourceError
from sinfer.nats.stream_messages import StreamMessages
from sinfer.products.task import InferTaskConfig
from sinfer.source.checkpoint import Checkpoint
from sinfer.store.connection import Store
from sinfer.store.history.ledger import Finished, LedgerEntry, read_ledger
from sinfer.store.partition.incarnation import is_of_stream
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.work.claims import PartitionClaims
from sinfer.store.work.requeue import requeue
from sinfer.windows.dead_letters import Origin
from sinfer.windows.ids import Scope
from sinfer.windows.reprocessing import Reprocessing

_POLL_S = 0.1


async def rerun(
    store: Store,
    client: Client,
    finished: Finished,
    task: InferTaskConfig,
    progress: Callable[[int], None] = lambda count: None,
) -> str:
    """Read a window's messages from the stream again and have workers process it once more.

    Args:
        store: the window store.
        client: the NATS connection of the task's source.
        finished: the window, as the ledger has it.
        task: the task as it is now; it processes the window.
        progress: is told of messages that were read.

    Returns:
        The id under which the store has it until it is done.

    Raises:
        SourceError: the stream has not all of the messages any more, or is another one.
        StoreFullError: Redis is at maxmemory.
    """
    entry, scope = finished.entry, finished.scope
    messages = StreamMessages(client, task.source.stream)
    await check_stream(store, messages, scope, entry.incarnation)
    found = await messages.get_all(entry.sequences, progress)
    origin = Origin(
        entry.key, entry.start_ms, entry.end_ms, entry.reason, entry.revision, entry.count
    )
    reprocessing = Reprocessing("rerun", entry.window, entry.attempts, entry.ordinals)
    return await requeue(store, scope, origin, reprocessing, found, incarnation=entry.incarnation)


async def wait_until_done(store: Store, scope: Scope, window_id: str) -> None:
    """Return when workers are done with a closed window, by results or by dead letters."""
    claims = PartitionClaims(store, scope)
    while await claims.has(window_id):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


async def check_stream(
    store: Store, messages: StreamMessages, scope: Scope, incarnation: str
) -> None:
    """Sequences mean nothing on a stream that was made again.

    Args:
        store: the window store.
        messages: of the stream.
        scope: the partition.
        incarnation: of the source when the messages were read.

    Raises:
        SourceError: they were read from another stream.
    """
    info = await messages.api.stream_info()
    if incarnation:
        if not is_of_stream(incarnation, info.config.name, info.created):
            raise SourceError(
                f"the window's messages were in another stream: {info.config.name!r} was made at"
                f" {info.created}, after they were read"
            )
        return
    blob = (await snapshot(store, scope)).checkpoint
    if not blob:
        return
    try:
        state = Checkpoint.decode(blob)
    except msgspec.DecodeError as error:
        raise SourceError(f"{scope}: its position cannot be read: {error}") from error
    if state.stream_created != info.created:
        raise SourceError(
            f"stream {info.config.name!r} was made anew at {info.created}; the window's messages"
            f" were in the one made at {state.stream_created}"
        )


async def find_window(store: Store, scopes: list[Scope], window_id: str) -> Finished | None:
    """A finished window that the ledger still has: the last time that it was whole."""
    part: Finished | None = None
    for scope in scopes:
        async for finished in read_ledger(store, scope):
            if finished.entry.window == window_id:
                if _is_whole(finished.entry):
                    return finished
                part = part or finished
    return part


def _is_whole(entry: LedgerEntry) -> bool:
    return not entry.ordinals
