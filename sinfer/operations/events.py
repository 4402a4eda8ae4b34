"""What happens to windows, as it happens: those that end, and messages that are given up."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from sinfer.logging.masking import mask
from sinfer.store.connection import Store
from sinfer.store.history.ledger import LedgerEntry, unpack_entry
from sinfer.store.history.new_entries import RecentEntries
from sinfer.store.schedule import Schedule
from sinfer.windows.dead_letters import unpack_dead_letter
from sinfer.windows.ids import Scope

_AT_ONCE = 200
"""Entries of a partition that are read at once; what there is more comes with the next call."""

_SEQUENCES = 5
"""So many messages that were given up for the same reason are named."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One line to tell.

    Attributes:
        text: the line.
        is_bad: whether messages were given up.
    """

    text: str
    is_bad: bool = False


class Happenings:
    """Follows what partitions have in the store, from when each is first seen.

    A partition that comes later is told of from its start.

    Args:
        store: the window store; closed by ``aclose``.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recent = RecentEntries(store)

    async def new(self) -> list[Happening]:
        """What happened since the last call; what was given up comes first.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        scopes, _ = await Schedule(self._store).known()
        found = []
        for scope in scopes:
            dead = _dead_lines(scope, await self._recent.letters(scope))
            ended = _window_lines(await self._recent.finished(scope))
            found += [*(Happening(line, is_bad=True) for line in dead), *map(Happening, ended)]
        return sorted(found, key=lambda happening: not happening.is_bad)

    async def aclose(self) -> None:
        """Close the store."""
        await self._store.aclose()


def _dead_lines(scope: Scope, letters: list[bytes]) -> Iterator[str]:
    """A line for each reason, with the messages that were given up for it."""
    reasons: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for blob in letters:
        letter = unpack_dead_letter(blob)
        reasons[letter.stage, letter.error].append(letter.message.stream_seq)
    for (stage, error), sequences in reasons.items():
        first = ", ".join(map(str, sorted(sequences)[:_SEQUENCES]))
        rest = len(sequences) - _SEQUENCES
        more = f" and {rest} more" if rest > 0 else ""
        some = "message" if len(sequences) == 1 else "messages"
        yield mask(f"{scope.task}: {some} {first}{more} given up: {stage}: {error}")


def _window_lines(entries: list[bytes]) -> Iterator[str]:
    for blob in entries:
        try:
            entry = unpack_entry(blob)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        yield mask(window_line(entry))


def window_line(entry: LedgerEntry) -> str:
    """A finished window in one line."""
    parts = [
        f"{entry.count} message{'' if entry.count == 1 else 's'}",
        f"closed by {entry.reason}",
    ]
    if entry.dead:
        parts.append(f"{entry.dead} given up")
    if entry.attempts > 1:
        parts.append(f"attempt {entry.attempts}")
    parts.append(f"model {entry.inference_ms} ms")
    parts.append(f"sinks {entry.sinks_ms} ms")
    return f"{entry.window}: {', '.join(parts)}"
