"""A claimed window, and what becomes of it: what workers and any store of windows agree on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow


@dataclass(frozen=True, slots=True)
class Claim:
    """A window that this worker holds.

    Attributes:
        window: the window.
        token: fencing token of the claim; every later step is refused under an older one.
        attempt: how often the window was claimed, from 1; claims that did not count left out.
        excused: how often it was claimed and handed back without counting.
        claimed_ms: when, by the store's clock.
        deaths: how often its lease ran out before, since its worker died or was frozen. These
            claims count among ``excused``, not among the attempts.
    """

    window: ClosedWindow
    token: int
    attempt: int
    claimed_ms: int = 0
    excused: int = 0
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class Completion:
    """How a claimed window ended.

    Attributes:
        claim: the window.
        counts: what happened to its messages, added to the account. ``sunk``, ``dead`` and
            ``filtered`` are left out for windows that share messages: each message is counted once,
            when the last of its windows is done.
        dead: those that were given up.
        entry: what the ledger notes of it, as ``pack_entry`` writes it; None for nothing.
        ledger: how many entries the ledger keeps.
        filtered: stream sequences of those that were filtered out.
    """

    claim: Claim
    counts: dict[str, int] = field(default_factory=dict)
    dead: Sequence[DeadLetter] = ()
    entry: bytes | None = None
    ledger: int = 0
    filtered: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """What an earlier attempt left: the model's output, and the sinks that have it.

    Attributes:
        output: as it was stored; None when there is none.
        sinks: names of the sinks that need not be written again.
        search: how far the search for items that kill their worker has come; empty when there is
            none.
        progress: what was stored while the items were asked about, by name.
    """

    output: bytes | None
    sinks: frozenset[str]
    search: bytes = b""
    progress: Mapping[str, bytes] = field(default_factory=dict)


class Claims(Protocol):
    """What processing needs of a store of windows; ``PartitionClaims`` says what each step does."""

    scope: Scope

    async def now_ms(self) -> int: ...

    async def read_output(self, claim: Claim) -> StoredOutput: ...

    async def store_output(
        self,
        claim: Claim,
        *,
        output: bytes | None = None,
        sinks: Sequence[str] = (),
        search: bytes | None = None,
        progress: Mapping[str, bytes] | None = None,
    ) -> bool: ...

    async def complete(self, completions: Sequence[Completion]) -> list[bool]: ...

    async def release(
        self,
        claim: Claim,
        *,
        wait_ms: int = 0,
        counts: bool = True,
        away: Mapping[str, str] | None = None,
        back: Collection[str] = (),
    ) -> int: ...

    async def note_answers(self, back: Collection[str], known: Collection[str]) -> None: ...

    async def note_unreadable(self, claim: Claim) -> None: ...

    async def note_costly(self, why: str) -> None: ...
