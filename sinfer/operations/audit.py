"""Auditing: whether every message is accounted for, and every window is where it can be found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sinfer.errors import SinferError, UnavailableError
from sinfer.store.connection import Store
from sinfer.store.partition.account import Account
from sinfer.store.partition.exact_account import exact_account
from sinfer.store.partition.snapshot import PartitionSnapshot, snapshot
from sinfer.store.work.contents import Damage, pack_members, unpack_members
from sinfer.store.work.segments import Segments
from sinfer.types.gone import Gone, told
from sinfer.windows.dead_letters import one_line
from sinfer.windows.ids import Scope, write_off_command

_AT_ONCE = 500

DamagedState = Literal["open", "closed", "set aside", "no record"]


@dataclass(frozen=True, slots=True)
class DamagedWindow:
    """A window whose messages are not all there.

    Attributes:
        window: its id.
        state: where it is; without a record nothing is known of it but its id and messages.
        damage: what is wrong with it.
        shared: whether other windows may need the same messages.
    """

    window: str
    state: DamagedState
    damage: Damage
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Audited:
    """What an audit found of one partition.

    Attributes:
        scope: the partition.
        account: where its messages are. What is gone from windows is nowhere.
        stranded: closed windows that neither wait nor are held by a worker, and open ones that
            nobody would close. Beat puts them back. Must be none.
        damaged: windows whose messages are not all there. Must be none.
        orphans: shared segments that no window holds, and how many messages are in them. Must be
            none.
        gone: messages that neither the store nor the stream has any more, and that nobody has
            written off. Must be none.
        written_off: how many others somebody has.
        lost_letters: dead letters that were stored, and are gone though nobody removed them.
        unreadable: windows whose records cannot be read, and why. Must be none.
        error: why the partition cannot be audited; empty when it can.
    """

    scope: Scope
    account: Account
    stranded: list[str]
    damaged: list[DamagedWindow] = field(default_factory=list)
    orphans: dict[str, int] = field(default_factory=dict)
    gone: list[Gone] = field(default_factory=list)
    written_off: int = 0
    lost_letters: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def missing(self) -> int:
        """Messages that are nowhere, also those that are gone; less than 0 when some are counted
        twice. Must be 0."""
        return self.account.missing + sum(one.messages for one in self.gone)

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing, nothing double and nothing stranded."""
        wrong = (
            self.gone, self.stranded, self.damaged, self.orphans, self.lost_letters,
            self.unreadable, self.error,
        )  # fmt: skip
        return self.account.missing == 0 and not any(wrong)

    @property
    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        found = [self.error] if self.error else []
        if self.account.missing:
            found.append(f"{self.account.missing} messages are not accounted for")
        if self.gone:
            found.append(
                f"{told(self.gone)}; `{write_off_command(self.scope)}` when that is settled"
            )
        if self.lost_letters:
            found.append(f"{self.lost_letters} dead letters are gone that nobody removed")
        found += [f"window {name}: {why}" for name, why in self.unreadable.items()]
        found += [
            f"window {name} is in no index; beat puts it back within a minute"
            for name in self.stranded
        ]
        found += [
            f"window {damaged.window} ({damaged.state}): {describe(damaged.damage)}"
            for damaged in self.damaged
        ]
        found += [
            f"no window holds the {messages} messages of segment {name}"
            for name, messages in self.orphans.items()
        ]
        return found


def describe(damage: Damage) -> str:
    """What is wrong with a window, and which messages are gone."""
    if not damage.lost:
        return damage.reason
    more = f" and {damage.unknown} of unknown sequences" if damage.unknown else ""
    return f"{damage.reason}; gone: sequences {ranges(damage.lost)}{more}"


def ranges(packed: Sequence[int]) -> str:
    """Packed sequences as people read them: ``7-9, 12``."""
    words, seq = [], 0
    for gap, further in zip(packed[::2], packed[1::2], strict=True):
        first = seq + gap
        seq = first + further + 1
        words.append(str(first) if not further else f"{first}-{first + further}")
    return ", ".join(words)


async def audit(store: Store, scopes: list[Scope]) -> list[Audited]:
    """Audit partitions, each at one moment: they may be at work meanwhile."""
    return [await _audit_or_error(store, scope) for scope in scopes]


async def _audit_or_error(store: Store, scope: Scope) -> Audited:
    """The audit of a partition; what cannot be read there hides no other partition."""
    try:
        return await _audit(store, scope)
    except UnavailableError:
        raise
    except Exception as error:  # whatever is stored there
        told = str(error) if isinstance(error, SinferError) else repr(error)
        return Audited(
            scope, Account(0, 0, 0, 0, 0, 0, 0), [], error=f"it cannot be read: {one_line(told)}"
        )


async def _audit(store: Store, scope: Scope) -> Audited:
    seen = await snapshot(store, scope, windows=True)
    torn = await _torn(store, seen)
    if torn:  # unless they ended between the two looks
        seen = await snapshot(store, scope, windows=True)
        torn = await _torn(store, seen, only=torn)
    damaged = [*_set_aside(seen), *torn.values(), *await _without_record(store, seen)]
    windows = seen.windows
    holders, sizes = windows.holders(), windows.segment_sizes
    orphans = {name: number for name, number in sizes.items() if not holders[name]}
    account = await exact_account(store, seen)
    return Audited(
        scope,
        _without(account, damaged, sum(orphans.values())),
        sorted([*windows.stranded, *(name for name, _ in windows.unclosable)]),
        damaged,
        orphans,
        seen.gone,
        seen.written_off,
        seen.lost_letters,
        {name: window.problem for name, window in windows.closed.items() if window.problem}
        | {name: "its record cannot be read" for name, r in windows.opened.items() if not r.count},
    )


def _set_aside(seen: PartitionSnapshot) -> Iterable[DamagedWindow]:
    for window, _, damage in seen.windows.set_aside():
        yield DamagedWindow(window.id, "set aside", damage, window.shares_segments)


async def _torn(
    store: Store, seen: PartitionSnapshot, only: Mapping[str, DamagedWindow] | None = None
) -> dict[str, DamagedWindow]:
    """Windows that miss chunks and were not set aside yet, by what Redis says without reading."""
    segments = Segments(store, seen.scope)
    parts = [
        (name, part)
        for name, part in seen.windows.parts()
        if name not in seen.windows.aside and (only is None or name in only)
    ]
    found: dict[str, DamagedWindow] = {}
    for first in range(0, len(parts), _AT_ONCE):
        some = parts[first : first + _AT_ONCE]
        torn = await segments.gone([part for _, part in some])
        for (name, part), gone in zip(some, torn, strict=True):
            if gone:
                members = await segments.members(part.segment, part.chunks)
                found[name] = _add(seen, name, found.get(name), gone, members)
    return found


def _add(
    seen: PartitionSnapshot,
    name: str,
    known: DamagedWindow | None,
    gone: set[int],
    members: dict[int, list[int]],
) -> DamagedWindow:
    """A torn window, and what one of its segments adds to that."""
    sequences = {seq for place in gone for seq in unpack_members(members.get(place, []))}
    if known is not None:
        sequences |= set(known.damage.sequences)
    closed = seen.windows.closed.get(name)
    record = seen.windows.opened[name] if closed is None else closed.record
    # Without knowing what was in a chunk, the whole window may be gone.
    unknown = 0 if gone <= members.keys() else record.count - len(sequences)
    if known is not None and known.damage.unknown:
        unknown = max(0, record.count - len(sequences))
    total = len(sequences) + unknown
    reason = f"{'up to ' if unknown else ''}{total} of {record.count} messages are gone"
    damage = Damage(reason, pack_members(sorted(sequences)), unknown)
    shared = name in seen.windows.segment_sizes if closed is None else closed.shares_segments
    return DamagedWindow(name, "open" if closed is None else "closed", damage, shared)


async def _without_record(store: Store, seen: PartitionSnapshot) -> list[DamagedWindow]:
    """Windows of which an index has the id, and nothing else is there."""
    found = []
    segments = Segments(store, seen.scope)
    for name in seen.windows.without_record:
        members = await segments.members_of_all(name)
        sequences = {seq for packed in members.values() for seq in unpack_members(packed)}
        damage = Damage("its record is gone from the store", pack_members(sorted(sequences)))
        found.append(DamagedWindow(name, "no record", damage))
    return found


def _without(account: Account, damaged: Sequence[DamagedWindow], orphaned: int) -> Account:
    """The account without the messages that are not where it says."""
    with_record = [window for window in damaged if window.state != "no record"]
    shared = [window.damage for window in with_record if window.shared]
    sequences = {seq for damage in shared for seq in damage.sequences}
    gone = len(sequences) + max((damage.unknown for damage in shared), default=0)
    for window in with_record:
        if not window.shared:
            gone += window.damage.count
    buffered = sum(w.damage.count for w in with_record if w.state == "open" and not w.shared)
    buffered = min(buffered, account.buffered)
    in_flight = min(gone - buffered + orphaned, account.in_flight)
    return replace(
        account,
        buffered=account.buffered - buffered,
        in_flight=account.in_flight - in_flight,
    )
