"""Windows that were set aside: made whole from the stream, or given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nats.aio.client import Client

from sinfer.errors import SourceError
from sinfer.ingest.entries import Preparer
from sinfer.nats.stream_messages import StreamMessages
from sinfer.nats.subjects import EVERYTHING, covers
from sinfer.operations.rerun import check_stream
from sinfer.products.pipeline import InferPipeline
from sinfer.store.connection import Store
from sinfer.store.history.ledger import pack_entry
from sinfer.store.partition.account import Count
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.store_time import partition_now_ms
from sinfer.store.work.claim import Completion
from sinfer.store.work.claims import PartitionClaims
from sinfer.store.work.contents import Contents
from sinfer.store.work.segments import Segments
from sinfer.store.work.set_aside import SetAside, put_back, take_aside
from sinfer.types.message import Message, pack_chunk
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow
from sinfer.worker.attempts import Timings
from sinfer.worker.given_up import dead_letter
from sinfer.worker.outcome import Failure
from sinfer.worker.process import ledger_entry

_LEASE_MS = 60_000
_PAGE = 500
_MOST_READ = 100_000


async def find_aside(
    store: Store, scopes: list[Scope], window_id: str | None = None
) -> list[SetAside]:
    """The windows that are set aside, or that one of them; by the id of the store or of the sinks.

    Args:
        store: the window store.
        scopes: the partitions to look into.
        window_id: the window; None for all.
    """
    found = [aside for scope in scopes for aside in await _aside_in(store, scope)]
    if window_id is None:
        return found
    return [a for a in found if window_id in (a.window.id, a.window.public_id)]


async def _aside_in(store: Store, scope: Scope) -> list[SetAside]:
    """The windows of a partition that are set aside, the longest first."""
    if not (await snapshot(store, scope)).sizes.aside:
        return []
    seen = (await snapshot(store, scope, windows=True)).windows
    found = [SetAside(scope, *one) for one in seen.set_aside()]
    return sorted(found, key=lambda aside: (aside.since_ms, aside.window.id))


async def rebuild(
    store: Store,
    client: Client,
    aside: SetAside,
    pipeline: InferPipeline[Any, Any],
    progress: Callable[[int], None] = lambda count: None,
) -> bool:
    """Read the messages that a window lost from the stream, and have workers process it.

    Args:
        store: the window store.
        client: the NATS connection of the task's source.
        aside: the window.
        pipeline: the product's code, made for the task.
        progress: is told of messages that were read.

    Returns:
        Whether it was still set aside.

    Raises:
        SourceError: the stream has not all of the messages any more, or is another one, or it is
            not clear which messages belong to the window. Nothing was changed.
        StoreFullError: Redis is at maxmemory.
    """
    messages = StreamMessages(client, pipeline.task.source.stream)
    await check_stream(store, messages, aside.scope, aside.window.record.incarnation)
    [found] = await PartitionClaims(store, aside.scope).contents([aside.window])
    chunks: dict[tuple[str, int], list[Message]] = {}
    for at, sequences in found.lost.items():
        chunks[at] = await messages.get_all(sequences, progress)
        for message in chunks[at]:
            _refuse_foreign(message, aside, pipeline)
    if found.damage is not None and found.damage.unknown:
        chunks |= await _unknown(store, messages, aside, pipeline, found, progress)
    left = await _with(store, aside, chunks)
    if left.damage is not None:
        raise SourceError(
            f"window {aside.window.id} cannot be rebuilt from stream"
            f" {pipeline.task.source.stream!r}: {left.damage.reason}; give it up with"
            " `sinfer windows discard`"
        )
    return await put_back(store, aside, chunks)


def _refuse_foreign(message: Message, aside: SetAside, pipeline: InferPipeline[Any, Any]) -> None:
    """What is in the stream under a sequence must be what was in the window.

    What ``preprocess`` makes of it now is for the workers to say; but where it gives an item, that
    must be one of this window.
    """
    subject = aside.scope.partition
    if subject != EVERYTHING and not covers(subject, message.subject):
        raise SourceError(
            f"message {message.stream_seq} is on subject {message.subject!r}, not one of"
            f" partition {subject!r}: the stream is not the one that the window was read from"
        )
    if not _may_belong(message, aside.window, pipeline):
        raise SourceError(
            f"message {message.stream_seq} does not belong to window {aside.window.id} by the"
            " product's code as it is now; put the code back, or give the window up with"
            " `sinfer windows discard`"
        )


def _may_belong(
    message: Message, window: ClosedWindow, pipeline: InferPipeline[Any, Any], *, sure: bool = False
) -> bool:
    """Whether a message can be one of a window's.

    Args:
        message: the message.
        window: the window.
        pipeline: the product's code.
        sure: whether it must have an item.
    """
    prepared = Preparer(pipeline).prepare([message], message.timestamp_ns // 1_000_000)
    if not prepared.entries:
        return not sure
    entry, record = prepared.entries[0], window.record
    if entry.key != record.key:
        return False
    if pipeline.task.window.time != "event" or record.start_ms is None or record.end_ms is None:
        return True
    return record.start_ms <= entry.time_ms < record.end_ms


async def _unknown(
    store: Store,
    messages: StreamMessages,
    aside: SetAside,
    pipeline: InferPipeline[Any, Any],
    found: Contents,
    progress: Callable[[int], None],
) -> Mapping[tuple[str, int], list[Message]]:
    """The messages of chunks of which nobody knows any more what was in them.

    They are those between the window's first and last message that belong to it and that it has
    not. Whether these are the right ones, the window's counts must say.
    """
    record, window = aside.window.record, aside.window
    missing = await _missing_chunks(store, aside)
    if window.shares_segments and len(missing) > 1:
        return {}  # which message was in which of them cannot be told
    filters = [] if aside.scope.partition == EVERYTHING else [aside.scope.partition]
    known = {message.stream_seq for message in found.messages}
    known |= {seq for sequences in found.lost.values() for seq in sequences}
    fitting: list[Message] = []
    first, read = record.first_seq, 0
    while first <= record.last_seq and read < _MOST_READ:
        some, last = await messages.between(first, record.last_seq, filters, _PAGE)
        read += len(some)
        fitting += [
            message
            for message in some
            if message.stream_seq not in known and _may_belong(message, window, pipeline, sure=True)
        ]
        first = last + 1
        progress(len(some))
    empty: dict[tuple[str, int], list[Message]] = {at: [] for at in missing[1:]}
    return {missing[0]: fitting, **empty} if missing else {}


async def _missing_chunks(store: Store, aside: SetAside) -> list[tuple[str, int]]:
    """Chunks that are gone and of which it is not known what was in them."""
    segments = Segments(store, aside.scope)
    missing = []
    for part in aside.window.parts:
        blobs, expected = await segments.both(part.segment, part.chunks)
        for place in range(1, part.chunks + 1):
            is_there = place <= len(blobs) and bool(blobs[place - 1])
            if not is_there and place not in expected:
                missing.append((part.segment, place))
    return missing


async def _with(
    store: Store, aside: SetAside, chunks: Mapping[tuple[str, int], list[Message]]
) -> Contents:
    """What the window has when these chunks are put into its segments."""
    segments = Segments(store, aside.scope)
    blobs, expected = [], []
    for part in aside.window.parts:
        found, should = await segments.both(part.segment, part.chunks)
        found += [b""] * (part.chunks - len(found))
        for (segment, place), messages in chunks.items():
            if segment == part.segment:
                found[place - 1] = pack_chunk(messages)
        blobs.append(found)
        expected.append(should)
    return Contents(aside.window, blobs, expected)


async def discard(store: Store, aside: SetAside, *, ledger: int) -> int:
    """Give a window up: each of its messages becomes a dead letter, those that are gone as well.

    Args:
        store: the window store.
        aside: the window.
        ledger: how many entries the ledger of its task keeps.

    Returns:
        How many messages were given up; 0 when the window is not set aside any more.
    """
    claims = PartitionClaims(store, aside.scope)
    claim = await take_aside(store, aside, lease_ms=_LEASE_MS)
    if claim is None:
        return 0
    [found] = await claims.contents([aside.window])
    gone = [] if found.damage is None else found.damage.sequences
    unknown = 0 if found.damage is None else found.damage.unknown
    subject = aside.scope.partition
    messages = found.messages + [Message(b"", subject, None, seq) for seq in gone]
    messages.sort(key=lambda message: message.stream_seq)
    # Those that nobody can name have numbers of their own, so that each is counted once.
    messages += [Message(b"", subject, None, -number) for number in range(1, unknown + 1)]
    there = {message.stream_seq for message in found.messages}
    now_ms = await partition_now_ms(store, aside.scope)
    letters = []
    for place, message in enumerate(messages):
        is_gone = message.stream_seq not in there
        text = f"given up with its window: {aside.damage.reason}"
        text = f"the message is gone from the store, {text}" if is_gone else text
        letters.append(
            dead_letter(claim, message, place, Failure.at(place, place, "window", text), now_ms)
        )
    counts = {Count.DEAD: len(letters), Count.WINDOWS: 1}
    named = [message for message in messages if message.stream_seq > 0]
    entry = pack_entry(ledger_entry(claim, named, "", len(letters), Timings())) if ledger else None
    [done] = await claims.complete([Completion(claim, counts, letters, entry, ledger)])
    return len(letters) if done else 0
