"""Starting a partition over: it is read again from where its task's source says.

What was read before is brought to its end: open windows are closed, and workers process them like
any other, under the names that they have. The account goes on. What is read from now on is of
another incarnation, so that its windows and results meet none of those before.

An ingestor may be at work meanwhile. The lease is taken from it, so that what it has in hand is
refused by the store; it waits for the lease and goes on from the new beginning.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

from nats.aio.client import Client

from sinfer.errors import SourceError, StreamResetError
from sinfer.ingest.closing import close_all, planner_of
from sinfer.ingest.handover import stored_spec
from sinfer.ingest.leases import LEASE_MS
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.jetstream_types import ConsumerInfo, StreamInfo
from sinfer.nats.subjects import consumer_name, overlap
from sinfer.products.revisions import Revision
from sinfer.products.task import InferTaskConfig
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.choice import durable_name, held_by_other
from sinfer.source.durable import renewed, start_noted
from sinfer.source.start import check_identity, start_of
from sinfer.store.boards.consumers import ConsumerBoard, consumer_id, is_same_task
from sinfer.store.boards.read_marks import ReadMarks
from sinfer.store.connection import Store
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.incarnation import Starts
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.partition.partition_state import PartitionState
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.partition.writer import PartitionWriter
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Plan

_TRIES = 40
_PAUSE_S = 0.25


@dataclass(frozen=True, slots=True)
class StartedOver:
    """What became of a partition.

    Attributes:
        scope: the partition.
        position: the stream sequence up to which it had been read.
        closed: open windows that were closed; they are processed like any other.
        waiting: closed windows that are not done, with these.
        start: the number of the start that it has now.
        consumer: the durable consumer that was made again; empty when there is none.
    """

    scope: Scope
    position: int
    closed: int
    waiting: int
    start: int
    consumer: str


async def start_over(
    store: Store, client: Client, scope: Scope, task: InferTaskConfig
) -> StartedOver:
    """Have a partition read again from where its task's source says.

    Args:
        store: the window store.
        client: the NATS connection of the task's source.
        scope: the partition.
        task: the task as it is now.

    Raises:
        SourceError: the stream is missing, or has nothing any more of what was read, or another
            task reads the durable. Nothing was changed.
        StaleTokenError: somebody else did the same at the same time.
        UnavailableError, StoreFullError: not now. It may be repeated.
    """
    api = JetStreamApi(client, task.source.stream)
    stream = await api.stream_info()
    await _check_own(store, api, stream, scope, task)
    writer = PartitionWriter(store, scope, owner=f"reset-{uuid.uuid4().hex}", lease_ms=LEASE_MS)
    await _check_worth(store, scope, stream)
    await writer.seize()
    try:
        state = await writer.load(may_be_lost=True)
        start, consumer = await _renew_consumer(
            api, stream, scope, task, await Starts(store).next(scope)
        )
        closed = await _close(writer, state, task)
        waiting = await writer.pending()
    finally:
        await writer.release()
    marks = ReadMarks(store, scope.product, scope.task)
    if taken := [name for name in (await marks.see()).read if overlap(name, scope.partition)]:
        await marks.forget(*taken)
    schedule = Schedule(store)
    await schedule.register(scope)
    await schedule.announce(scope, await store.now_ms())
    position = Checkpoint.decode(state.source).position if state.source else 0
    return StartedOver(scope, position, closed, waiting, start, consumer)


async def _check_own(
    store: Store, api: JetStreamApi, stream: StreamInfo, scope: Scope, task: InferTaskConfig
) -> None:
    """Making a durable again that another task reads would have that one start over."""
    name = durable_name(task.source, scope.partition)
    info = None if name is None else await api.consumer_info(name)
    if name is None or info is None or info.config.ack_policy == "none":
        return
    consumer = consumer_id(stream.config.name, stream.created, name)
    other = await ConsumerBoard(store).reader(consumer)
    if other is not None and not is_same_task(other, scope):
        raise held_by_other(stream.config.name, consumer, other)


async def _check_worth(store: Store, scope: Scope, stream: StreamInfo) -> None:
    """A work queue has nothing of what was acknowledged: there is no beginning to go back to."""
    if stream.config.retention == "limits":
        return
    blob = (await snapshot(store, scope)).checkpoint
    if not blob:
        return
    try:
        check_identity(stream, Checkpoint.decode(blob))
    except StreamResetError:
        return
    raise SourceError(
        f"stream {stream.config.name!r} has {stream.config.retention} retention: what was read and"
        " acknowledged is not there any more, so that nothing can be read again;"
        " `sinfer dlq redrive` and `sinfer windows rerun` process again what sinfer still has"
    )


async def _renew_consumer(
    api: JetStreamApi, stream: StreamInfo, scope: Scope, task: InferTaskConfig, start: int
) -> tuple[int, str]:
    """Make the durable that reads the partition again, with the settings it has, at the beginning.

    Returns:
        The number of the start, which that of a durable may raise after Redis was wiped, and the
        name of the durable; empty when there is none, or none that keeps a place of its own.

    Raises:
        SourceError: an ingestor makes one again and again, as it was.
    """
    name = durable_name(task.source, scope.partition) or consumer_name("sinfer", str(scope))
    info = await api.consumer_info(name)
    keeps_place = stream.config.retention != "limits" or info is None
    if keeps_place or info is None or info.config.ack_policy == "none":
        return start, ""
    if info.delivered.consumer_seq:
        start = max(start, start_noted(info.config) + 1)
    config = renewed(info.config, start_of(task.source), start)
    config.name = info.name
    for _ in range(_TRIES):
        await api.delete_consumer(name)
        try:
            made: ConsumerInfo = await api.create_consumer(config)
        except SourceError as error:
            # An ingestor that has not noticed yet was quicker, and made it as it was.
            problem = error
            await asyncio.sleep(_PAUSE_S)
            continue
        return start, made.name
    raise problem


async def _close(writer: PartitionWriter, state: PartitionState, task: InferTaskConfig) -> int:
    """Close what is open and forget the position, in one step; returns how many that closed."""
    revision = Revision.unpack(state.config) if state.config else None
    spec = stored_spec(revision) if revision is not None and revision.text else task.window
    planner = planner_of(writer.scope, state, spec)
    # Windows that end do not wait for the watermarks of other partitions any more.
    settings = PartitionSettings(
        incarnation="",
        layout=state.layout + 1,
        repeats_to=0,
        forgets_watermark=True,
        alone=writer.scope,
    )

    async def commit(plan: Plan) -> None:
        plan.watermark_ms = None
        await writer.commit(Commit(plan, b""), settings=settings)

    plan, _ = await close_all(planner, "" if revision is None else revision.meaning, commit)
    return len(plan.closed)
