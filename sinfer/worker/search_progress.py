"""How far asking about a window's items has come, kept with the window for later attempts.

Each answer is stored as it comes, in a field of its own, and beside it what is still to be asked
about. Whoever has the window next, after an outage or the end of a worker, asks about that alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from sinfer.worker.outcome import Outcome, pack_outcome, unpack_outcome

_STATE = ""
"""The field that tells which others count."""


class _State(msgspec.Struct, array_like=True):
    """What is stored of a search beside its steps.

    Attributes:
        search: its name; steps of others are left from before.
        steps: how many there are.
        todo: the parts that are still to be asked about, each as runs of places of messages; None
            when nothing was found yet.
        reason: the first that was said against an item.
    """

    search: str = ""
    steps: int = 0
    todo: list[list[tuple[int, int]]] | None = None
    reason: str = ""


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_State)


@dataclass(slots=True)
class SearchProgress:
    """One search for the items of a window that are refused.

    Attributes:
        todo: the parts that are still to be asked about, by places of messages; None when nothing
            was found yet.
        outcome: what the answers brought.
        reason: the first that the model, or code of the product, had against any item.
        is_stored: whether the store has anything of it.
    """

    todo: list[list[int]] | None = None
    outcome: Outcome = field(default_factory=Outcome)
    reason: str = ""
    _search: str = ""
    _steps: int = 0
    is_stored: bool = False

    @classmethod
    def read(cls, fields: Mapping[str, bytes]) -> SearchProgress:
        """What an earlier attempt left; where that cannot be read, nothing."""
        try:
            state = _decoder.decode(fields.get(_STATE) or _encoder.encode(_State()))
            todo = None if state.todo is None else [_places(runs) for runs in state.todo]
            found = cls(todo, Outcome(), state.reason, state.search, state.steps, bool(fields))
            for step in range(state.steps):
                add(found.outcome, unpack_outcome(fields[f"{state.search}:{step}"]))
        except (msgspec.MsgspecError, KeyError, UnicodeDecodeError):
            return cls(is_stored=True)
        return found

    @property
    def places(self) -> list[int]:
        """What is still to be asked about."""
        return [place for part in self.todo or () for place in part]

    def begin(self, search: str) -> None:
        """A new search begins, with nothing found.

        Args:
            search: a name that no other of the window has.
        """
        self.todo, self.outcome, self._search, self._steps = None, Outcome(), search, 0

    def step(self, found: Outcome, todo: list[list[int]]) -> dict[str, bytes]:
        """Add what an answer brought; returns the fields to be stored."""
        add(self.outcome, found)
        self.todo = todo
        name = f"{self._search}:{self._steps}"
        self._steps += 1
        return {name: pack_outcome(found), **self.state()}

    def state(self) -> dict[str, bytes]:
        """The field to be stored where nothing new was found."""
        self.is_stored = True
        todo = None if self.todo is None else [_runs(part) for part in self.todo]
        state = _State(self._search, self._steps, todo, self.reason)
        return {_STATE: _encoder.encode(state)}

    def forget(self) -> dict[str, bytes]:
        """All items are to be asked about again, or none; returns the fields to be stored."""
        self.begin("")
        return self.state() if self.is_stored else {}


def _runs(places: list[int]) -> list[tuple[int, int]]:
    """Places as first and last of each run: most parts are one."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and place == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], place)
        else:
            runs.append((place, place))
    return runs


def _places(runs: list[tuple[int, int]]) -> list[int]:
    return [place for first, last in runs for place in range(first, last + 1)]


def add(outcome: Outcome, more: Outcome) -> None:
    """Add to what is known of a window what became of other items of it."""
    outcome.rows = sorted([*outcome.rows, *more.rows], key=lambda row: row.ordinal)
    outcome.failures = [*outcome.failures, *more.failures]
    outcome.retries = [*outcome.retries, *more.retries]
    outcome.model = more.model or outcome.model
    outcome.filtered = [*dict.fromkeys([*outcome.filtered, *more.filtered])]
