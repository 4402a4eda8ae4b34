"""How tasks stand: windows, messages that wait, dead letters, pauses, ingestors, lag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nats.aio.client import Client

from sinfer.errors import SinferError, SourceError, UnavailableError
from sinfer.ingest.backpressure import HIGH_MEMORY
from sinfer.ingest.work_in_hand import SUSPECTED
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.subjects import EVERYTHING
from sinfer.source.checkpoint import Checkpoint
from sinfer.store.boards.ingestors import alive_count
from sinfer.store.boards.partition_faults import Fault, FaultBoard
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.boards.slow_hooks import SlowHook, SlowHookBoard
from sinfer.store.boards.task_memory import stopped_tasks
from sinfer.store.boards.task_reports import TaskReport, task_report
from sinfer.store.boards.unavailable import Outage
from sinfer.store.connection import Store
from sinfer.store.partition.snapshot import PartitionSnapshot, snapshot
from sinfer.store.partition.waiting_versions import named, told_versions, waiting_versions
from sinfer.store.schedule import Schedule
from sinfer.store.server import server_memory
from sinfer.store.store_time import store_time
from sinfer.types.gone import Gone, told
from sinfer.windows.dead_letters import one_line
from sinfer.windows.ids import Scope, reset_command, write_off_command

_AHEAD_MS = 1_000
"""A watermark may be so far ahead of the clock: clocks differ a little."""

_MANY_LATE, _LATE_SHARE = 10, 0.05
"""So many late messages, and such a share of all, are told."""


@dataclass(slots=True)
class PartitionStanding:
    """How one partition stands.

    Attributes:
        scope: the partition.
        open, sealed, waiting, leased: windows in these states; ``waiting`` for a worker or for the
            time of their next attempt.
        fetched, sunk, dead, filtered, late: messages, as the account counts them.
        discarded: messages that the stream removed before they were read.
        letters: dead letters in the store.
        results, fruitless, results_new, results_known, results_collided: as the account has them.
        writer: the ingestor that writes the partition now; empty when there is none.
        position: stream sequence up to which the partition is read.
        lag: messages of the stream behind the position, at most; None when that is not known.
        away: what its windows wait for.
        standstill: why the source gives its writer no more messages; empty when it does.
        unreadable: closed windows whose records cannot be read, and why.
        aside: windows that are set aside, since their messages are not all there.
        stranded: closed windows that are in no index; beat puts them back.
        gone: messages that neither the store nor the stream has any more.
        is_lost: whether there are windows, and nothing says any more how far it was read.
        unusable: why a worker cannot begin its windows; empty when it can.
        costly: why its windows cost several calls each; empty when they do not.
        fault: why beat cannot look after it, or why it cannot be read at all; empty when all is
            well.
        deaths: how many writers in a row ended without giving it back, as far as that may be the
            fault of a message.
        hand: which messages the last of them had in hand, the least and the greatest stream
            sequence; empty when that was not noted.
        ahead_ms: how far the watermark is ahead of the clock.
        waits_ms: how long the first of the windows that wait could have been taken by a worker.
        version: of the pipeline that opens its windows; None where none ever was named.
        versions: how many windows that are not done each version opened, where that was.
        of_other_version: windows that were processed by another version than they were opened by.
    """

    scope: Scope
    open: int = 0
    sealed: int = 0
    waiting: int = 0
    leased: int = 0
    fetched: int = 0
    sunk: int = 0
    dead: int = 0
    filtered: int = 0
    late: int = 0
    discarded: int = 0
    letters: int = 0
    results: int = 0
    fruitless: int = 0
    results_new: int = 0
    results_known: int = 0
    results_collided: int = 0
    writer: str = ""
    position: int = 0
    lag: int | None = None
    away: list[Outage] = field(default_factory=list)
    standstill: str = ""
    unreadable: dict[str, str] = field(default_factory=dict)
    aside: int = 0
    stranded: int = 0
    gone: list[Gone] = field(default_factory=list)
    is_lost: bool = False
    unusable: str = ""
    costly: str = ""
    fault: str = ""
    deaths: int = 0
    hand: str = ""
    ahead_ms: int = 0
    waits_ms: int = 0
    version: str | None = None
    versions: dict[str, int] = field(default_factory=dict)
    of_other_version: int = 0


@dataclass(slots=True)
class TaskStanding:
    """How one task stands.

    Attributes:
        product, task: the task.
        partitions: its partitions.
        paused: why it is paused, and what stands still; empty when it runs.
        ingestors: how many ingestors of the product are alive.
        workers: how many processes of workers take its windows.
        beats: how many beats run.
        missing: who is missing for the product to get anywhere, and what to type.
        outage: why the product's tasks cannot be listed now; empty when they can.
        trouble: what a person should know at once.
        clocks: what is wrong with the clocks of Redis and of this machine.
        memory: why it is stopped, when it takes too much of Redis' memory.
    """

    product: str
    task: str
    partitions: list[PartitionStanding] = field(default_factory=list)
    paused: str = ""
    ingestors: int = 0
    workers: int = 0
    beats: int = 0
    missing: list[str] = field(default_factory=list)
    outage: str = ""
    trouble: list[str] = field(default_factory=list)
    clocks: list[str] = field(default_factory=list)
    memory: str = ""

    def total(self, name: str) -> int:
        """A number added up over the partitions."""
        return sum(getattr(partition, name) for partition in self.partitions)

    @property
    def versions(self) -> str:
        """What is to be said of the versions of its pipeline; empty where it names none."""
        known = [
            partition.version for partition in self.partitions if partition.version is not None
        ]
        if not known:
            return ""
        waiting: Counter[str] = Counter()
        for partition in self.partitions:
            waiting.update(partition.versions)
        current = dict.fromkeys(known)
        told = [f"windows are opened by {' and by '.join(map(named, current))}"]
        own = known[0] if len(current) == 1 else "\0"
        if others := told_versions(dict(waiting), own):
            told.append(f"{others} wait")
        if done := self.total("of_other_version"):
            told.append(f"{done} were processed by another version than they were opened by")
        return "; ".join(told)

    @property
    def lag(self) -> int | None:
        """Messages that are not read yet, at most; None when that is not known."""
        lags = [partition.lag for partition in self.partitions]
        known = [lag for lag in lags if lag is not None]
        return sum(known) if lags and len(known) == len(lags) else None


async def standing(store: Store, scopes: list[Scope]) -> list[TaskStanding]:
    """How the tasks of these partitions stand, by all that Redis knows."""
    board = PauseBoard(store)
    await board.refresh()
    now_ms = await store.now_ms()
    faults = await FaultBoard(store).read()
    tasks: dict[tuple[str, str], TaskStanding] = {}
    reports: dict[str, TaskReport] = {}
    for scope in scopes:
        name = (scope.product, scope.task)
        if name not in tasks:
            tasks[name] = task = TaskStanding(*name)
            if (pause := board.of(*name)) is not None:
                task.paused = f"{pause.what}: {pause.reason}"
            if scope.product not in reports:
                reports[scope.product] = await _report(store, scope.product, now_ms)
            task.ingestors = await alive_count(store, scope.product, now_ms)
        tasks[name].partitions.append(await _partition_or_fault(store, scope, faults))
    slow = await SlowHookBoard(store).read(now_ms)
    clocks = (await store_time(store)).problems
    full = await stopped_tasks(store, now_ms)
    memory = await _memory_problem(store)
    for task in tasks.values():
        task.clocks = clocks
        task.outage = reports[task.product].outage
        if why := full.get((task.product, task.task)):
            task.memory = (
                f"pulling stops: {why}; see to it that its windows are done (is its model or a sink"
                " unavailable? are there workers?), purge dead letters, or raise Redis' maxmemory"
            )
        task.trouble = memory + _trouble(task, reports[task.product], slow)
    return list(tasks.values())


async def _memory_problem(store: Store) -> list[str]:
    """Whether Redis has no room, by what it says itself: ingestors cannot write it down then."""
    memory = await server_memory(store)
    limit, used = memory.limit, memory.used
    if not limit or used < HIGH_MEMORY * limit:
        return []
    text = (
        f"Redis uses {100 * used // limit} % of its maxmemory, so that pulling stops: see to it"
        " that windows are done, purge dead letters, or raise maxmemory"
    )
    return [text]


async def _report(store: Store, product: str, now_ms: int) -> TaskReport:
    """What ingestors say of a product; that it cannot be read is told in its place."""
    try:
        return await task_report(store, product, now_ms)
    except UnavailableError:
        raise
    except Exception as error:  # whatever is stored there
        return TaskReport(f"what its ingestors say cannot be read: {one_line(repr(error))}")


async def _partition_or_fault(
    store: Store, scope: Scope, faults: Mapping[str, Fault]
) -> PartitionStanding:
    """How a partition stands; what cannot be read there hides no other partition."""
    fault = faults.get(str(scope))
    text = ""
    if fault is not None:
        since = datetime.fromtimestamp(fault.since_ms // 1000, UTC).isoformat()
        text = f"beat cannot look after it since {since}, and tries again: {fault.error}"
    try:
        partition = await _partition(store, scope)
    except UnavailableError:
        raise
    except Exception as error:  # whatever is stored there
        told = str(error) if isinstance(error, SinferError) else repr(error)
        return PartitionStanding(scope, fault=text or f"it cannot be read: {one_line(told)}")
    partition.fault = text
    return partition


async def broken_index(store: Store) -> list[TaskStanding]:
    """What stands among the partitions in Redis and is none."""
    schedule = Schedule(store)
    text = f"is no name of a partition; remove it from the set {schedule.index} in Redis"
    _, others = await schedule.known()
    return [TaskStanding("?", name, trouble=[text]) for name in others]


async def broken_tasks(
    store: Store, products: Iterable[str], known: Iterable[TaskStanding]
) -> list[TaskStanding]:
    """Tasks that never ran because they are broken or cannot begin, as the ingestors see them.

    Args:
        store: the window store.
        products: which to look for.
        known: tasks that have run; they are left out.
    """
    names = {(task.product, task.task) for task in known}
    now_ms = await store.now_ms()
    found = []
    for product in sorted(products):
        report = await _report(store, product, now_ms)
        ingestors = await alive_count(store, product, now_ms)
        troubles = {
            name: [f"is skipped: {problem}"]
            for name, problem in report.problems.items()
            if (product, name) not in names
        }
        for partition, reason in report.stopped.items():
            scope = Scope.parse(partition)
            if (product, scope.task) not in names and scope.task not in report.problems:
                text = f"{scope.partition} does not move: {reason}"
                troubles.setdefault(scope.task, []).append(text)
        for name, trouble in troubles.items():
            outage = report.outage
            found.append(
                TaskStanding(product, name, ingestors=ingestors, outage=outage, trouble=trouble)
            )
    return found


async def _partition(store: Store, scope: Scope) -> PartitionStanding:
    seen = await snapshot(store, scope)
    sizes, writer = seen.sizes, seen.writer
    versions = {} if seen.version is None else await waiting_versions(store, scope)
    return PartitionStanding(
        scope,
        open=sizes.open,
        sealed=sizes.awaiting,
        waiting=sizes.waiting,
        leased=sizes.leased,
        **_counts(seen),
        letters=sizes.letters,
        writer=writer,
        position=_position(seen.checkpoint),
        away=seen.outages,
        standstill=seen.stall if writer else "",
        unreadable=dict(seen.unreadable),
        aside=sizes.aside,
        gone=seen.gone,
        is_lost=seen.checkpoint is None and bool(sizes.open or sizes.closed),
        unusable=seen.unusable,
        costly=seen.costly,
        stranded=sizes.stranded,
        deaths=seen.writer_deaths,
        hand=seen.work_in_hand,
        ahead_ms=max(0, seen.watermark_ms - seen.now_ms),
        waits_ms=seen.waits_ms,
        version=seen.version,
        versions=versions,
        of_other_version=seen.of_other_version,
    )


def _counts(seen: PartitionSnapshot) -> dict[str, Any]:
    return dict(seen.counts)


def _position(source: bytes | None) -> int:
    """Up to where the partition is read; 0 where another version wrote that."""
    try:
        return Checkpoint.decode(source).position if source else 0
    except (ValueError, TypeError):
        return 0


def _trouble(task: TaskStanding, report: TaskReport, slow: Iterable[SlowHook]) -> list[str]:
    """Whatever keeps a task from moving, or soon will, with what to do."""
    own = (f"{task.product}/{task.task}", task.product)
    return [
        *_discarded(task),
        *([f"PAUSED ({task.paused})"] if task.paused else []),
        *([task.memory] if task.memory else []),
        *_unmoved(task),
        *(found.text for found in slow if found.task in own),
        *_reported(task, report),
        *_waited_for(task),
        *_lost(task),
        *dict.fromkeys(p.costly for p in task.partitions if p.costly),
        *_lateness(task),
        *([f"{letters} dead letters"] if (letters := task.total("letters")) else []),
    ]


def _discarded(task: TaskStanding) -> Iterator[str]:
    """What was never read, as the stream did not keep it for so long."""
    for p in task.partitions:
        if p.discarded:
            yield (
                f"LOST: {p.discarded} messages of {p.scope.partition} were removed from the stream"
                " before they were read, and are gone. Raise its max_msgs, max_bytes or max_age, or"
                " have it refuse new ones (discard: new); `sinfer where` tells of one message"
            )


def _unmoved(task: TaskStanding) -> Iterator[str]:
    """Partitions and windows that wait for somebody."""
    for p in task.partitions:
        if p.unusable:
            yield f"{p.scope.partition}: its windows wait: {p.unusable}"
    for p in task.partitions:
        if p.fault:
            yield f"{p.scope.partition}: {p.fault}"
    unread = [p.scope.partition for p in task.partitions if not (p.writer or p.fault)]
    if task.ingestors and unread:
        yield f"nobody reads {', '.join(unread)}"
    for p in task.partitions:
        if p.standstill:
            yield f"{p.scope.partition} {p.standstill}"
    for partition in task.partitions:
        for window, why in partition.unreadable.items():
            yield (
                f"window {window} waits: {why}; it is given up after its attempts, unless a worker"
                " of the version that wrote it comes first"
            )


def _reported(task: TaskStanding, report: TaskReport) -> Iterator[str]:
    """What ingestors say, and what they left."""
    for partition in task.partitions:
        where = partition.scope.partition
        if reason := report.stopped.get(str(partition.scope)):
            yield f"{where} does not move: {reason}"
        if partition.deaths >= SUSPECTED and partition.hand:
            first, _, last = partition.hand.partition(" ")
            yield (
                f"{where}: {partition.deaths} ingestors in a row ended, and may have been killed by"
                f" one of the messages {first} to {last}, which are looked at in a process of their"
                " own now; what ends that as well becomes a dead letter"
            )
    places = {str(p.scope): p.scope.partition for p in task.partitions}
    for name, texts in report.lasting.items():
        if name in places:
            yield from (f"{places[name]}: {text}" for text in texts)
        elif not name:
            yield from (f"an ingestor says: {text}" for text in texts)
    for name, text in report.blocked.items():
        yield f"an ingestor is held up: {f'{name}: ' if name else ''}{text}"
    if problem := report.problems.get(task.task):
        yield f"stays as it was, since it is broken now: {problem}"


def _waited_for(task: TaskStanding) -> Iterator[str]:
    for outage in _outages(task):
        since = datetime.fromtimestamp(outage.since_ms // 1000, UTC).isoformat()
        yield f"{outage.what} is away since {since}; windows wait: {outage.error}"


def _lost(task: TaskStanding) -> Iterator[str]:
    """What is gone from Redis, or from a stream of results."""
    for p in task.partitions:
        if p.is_lost:
            yield (
                f"{p.scope.partition} has windows, and its position is gone from Redis: it is not"
                f" read. Restore it from a backup, or start over with `{reset_command(p.scope)}`"
            )
        if p.gone:
            yield (
                f"{p.scope.partition}: {told(p.gone)}. Publish them again, if somebody has them;"
                f" `{write_off_command(p.scope)}` when that is settled"
            )
    if aside := task.total("aside"):
        yield (
            f"{aside} windows are set aside, since their messages are not all in Redis any more:"
            " `sinfer windows list --aside` names them, `sinfer windows rebuild --all` reads what"
            " is gone from the stream, `sinfer windows discard` gives a window up"
        )
    if stranded := task.total("stranded"):
        yield (
            f"{stranded} closed windows are in no index, as after a key was deleted or evicted;"
            " beat puts them back within a minute"
        )
    if collided := task.total("results_collided"):
        yield (
            f"{collided} results were dropped by a stream as copies of other messages, and are dead"
            " letters: something else publishes there with the same Nats-Msg-Id"
        )


def _lateness(task: TaskStanding) -> Iterator[str]:
    """Event times that cannot be right, by what they do to the others."""
    for partition in task.partitions:
        if partition.ahead_ms > _AHEAD_MS:
            yield (
                f"{partition.scope.partition}: the watermark is {partition.ahead_ms / 1000:.0f} s"
                " ahead of the clock, by an item with a wrong time; what comes before it is late."
                " window.max_future bounds that"
            )
    late, fetched = task.total("late"), task.total("fetched")
    if late >= _MANY_LATE and late > _LATE_SHARE * fetched:
        yield (
            f"{late} of {fetched} messages came too late for their windows: raise"
            " window.max_out_of_orderness, or correct the clocks that give event times"
        )


def _outages(task: TaskStanding) -> list[Outage]:
    """What the task waits for, each thing once, since it was first unavailable to any partition."""
    first: dict[str, Outage] = {}
    for outage in (outage for partition in task.partitions for outage in partition.away):
        known = first.setdefault(outage.what, outage)
        if outage.since_ms < known.since_ms:
            first[outage.what] = outage
    return [first[what] for what in sorted(first)]


async def measure_lag(client: Client, stream: str, partition: PartitionStanding) -> None:
    """Ask the stream how far a partition is behind; leaves None when it cannot tell."""
    api = JetStreamApi(client, stream, timeout_s=2.0)
    subject = partition.scope.partition
    try:
        info = await api.stream_info()
        behind = max(0, info.state.last_seq - max(partition.position, info.state.first_seq - 1))
        if behind and subject != EVERYTHING:
            found = await api.next_message(partition.position + 1, [subject])
            behind = 0 if found is None else info.state.last_seq - found.seq + 1
    except (SourceError, UnavailableError):
        return
    partition.lag = behind
