"""A batch as it is committed: what it changes, and how that is told to ``commit_batch.lua``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sinfer.store.keys import INDEXED_FIELD, PartitionKeys
from sinfer.store.lua import Argument
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.work.contents import members_entry
from sinfer.types.message import pack_chunk
from sinfer.windows.dead_letters import DeadLetter, pack_dead_letter
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Plan
from sinfer.windows.records import pack_record


@dataclass(frozen=True, slots=True)
class Commit:
    """One batch, ready to be stored.

    Attributes:
        plan: what it does to the windows.
        source: the reader's state after it.
        dead: messages that were given up.
        counts: what happened to its messages, added to the account.
        idle: whether the source is idle: nothing came for a while and nothing is pending. Then the
            other partitions of the task do not wait for this one.
    """

    plan: Plan
    source: bytes
    dead: Sequence[DeadLetter] = ()
    counts: dict[str, int] = field(default_factory=dict)
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """What the store says after a commit.

    Attributes:
        now_ms: its clock.
        pending: windows that are closed, not done and not set aside.
        hint: closed windows that no Celery message is on its way for.
        next_due_ms: when beat has to look at the partition; 0 for never.
        awaiting: windows that wait for the watermarks of other partitions.
        lost: chunks of open windows that are not in the store any more; the windows are set aside
            when they are closed.
    """

    now_ms: int
    pending: int
    hint: int
    next_due_ms: int
    awaiting: int = 0
    lost: int = 0


def keys_of(commit: Commit, keys: PartitionKeys) -> list[str]:
    """The keys of the script."""
    plan = commit.plan
    names = [
        keys.meta, keys.open, keys.deadlines, keys.closed, keys.ready, keys.awaiting, keys.refs,
        keys.segment_sizes, keys.dead, keys.members, keys.aside, keys.unfinished,
    ]  # fmt: skip
    names += [keys.segment(append.segment) for append in plan.appends]
    for (change, _), segments in changes_of_holders(plan).items():
        if change < 0:
            for segment in segments:
                names += [keys.segment(segment), keys.given_up(segment)]
    return names


def changes_of_holders(plan: Plan) -> dict[tuple[int, bool], list[str]]:
    """Segments by how many windows more hold them, and whether they are new: most change alike."""
    found: dict[tuple[int, bool], list[str]] = {}
    for segment, change in plan.refs.items():
        if change:
            found.setdefault((change, segment in plan.created), []).append(segment)
    return found


def earliest_deadline_ms(plan: Plan) -> int:
    """The least deadline of the windows that are new; 0 when none of them has one."""
    new = [plan.puts[name].deadline_ms for name in plan.opened if name in plan.puts]
    return min(filter(None, new), default=0)


def lists_of(
    commit: Commit,
    settings: PartitionSettings | None,
    partitions: Sequence[Scope],
    indexed: int | None = None,
) -> list[Argument]:
    """The lists of the script, each with the number of its words in front.

    Args:
        commit: the batch.
        settings: what else changes of the partition.
        partitions: all partitions of the task, where windows wait for the least of their
            watermarks.
        indexed: how many commits there are with this one, where it is wanted which message is the
            first that is not done.
    """
    plan = commit.plan
    args: list[Argument] = []
    deadlines = [(r.deadline_ms, name) for name, r in plan.puts.items() if r.deadline_ms]
    refs: list[Argument] = []
    for (change, is_new), segments in changes_of_holders(plan).items():
        refs += [change, int(is_new), len(segments), *segments]
    for words in (
        _flat(_fields(commit, settings, partitions, indexed).items()),
        _flat(pair for pair in commit.counts.items() if pair[1]),
        plan.required,
        _flat(
            (
                segment,
                pack_chunk(messages),
                len(messages) if plan.shares else 0,
                place,
                members_entry(place, messages),
            )
            for segment, messages, place in plan.appends
        ),
        plan.removed,
        _flat((window_id, pack_record(record)) for window_id, record in plan.puts.items()),
        _flat(deadlines),
        _flat(
            (window.id, window.reason, window.record.first_ms, pack_record(window.record))
            for window in plan.closed
        ),
        _flat(_awaiting(plan)) if partitions else [],
        refs,
        [pack_dead_letter(letter) for letter in commit.dead],
        [] if indexed is None else _gone(plan),
        [] if indexed is None else _flat(_first_seqs(plan)),
    ):
        args.append(len(words))
        args += words
    return args


def _fields(
    commit: Commit,
    settings: PartitionSettings | None,
    partitions: Sequence[Scope],
    indexed: int | None,
) -> dict[str, Argument]:
    fields: dict[str, Argument] = {"source": commit.source}
    if indexed is not None:
        fields[INDEXED_FIELD] = indexed
    if settings is not None:
        fields |= settings.fields()
    if commit.plan.watermark_ms is not None:
        fields["watermark"] = commit.plan.watermark_ms
    if partitions:
        fields["partitions"] = " ".join(str(scope) for scope in partitions)
        fields["idle"] = int(commit.idle)
    return fields


def _awaiting(plan: Plan) -> list[tuple[int, str]]:
    """The closed windows that wait for the task's watermark, behind their ends."""
    return [
        (window.record.end_ms, window.id)
        for window in plan.closed
        if window.reason in ("time", "gap") and window.record.end_ms is not None
    ]


def _gone(plan: Plan) -> list[Argument]:
    """Windows that are neither open nor closed any more: merged, or of no use."""
    closed = {window.id for window in plan.closed}
    return [window_id for window_id in plan.removed if window_id not in closed]


def _first_seqs(plan: Plan) -> Iterable[tuple[int, str]]:
    """The least stream sequence of each window that opens or closes, or has an earlier message."""
    for window_id in plan.opened | plan.earlier:
        if (record := plan.puts.get(window_id)) is not None:
            yield record.first_seq, window_id
    for window in plan.closed:
        yield window.record.first_seq, window.id


def _flat(rows: Iterable[tuple[Argument, ...]]) -> list[Argument]:
    """The words of a list, one behind the other, as a script takes it."""
    return [word for row in rows for word in row]
