"""How far asking about a window's items has come, kept with the window for later attempts.

Each answer is stored as it comes, in a field of its own: a step. Beside the steps is what was to be
asked about when that was cut into other parts last. Whoever has the window next, after an outage or
the end of a worker, asks about that alone, without what the steps have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

import msgspec

from sinfer.worker.outcome import Outcome, pack_outcome, unpack_outcome

_STATE = ""
"""The field that tells which others count."""


class _State(msgspec.Struct, array_like=True):
    """What is stored of a search beside its steps.

    Attributes:
        search: its name; steps of others are left from before.
        steps: how many there were when this was stored; versions before 0.2 read only those.
        todo: the parts that were still to be asked about then, each as runs of places of messages;
            None when nothing was found yet.
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
            steps = [unpack_outcome(fields[name]) for name in _names(state, fields)]
            found._steps = len(steps)
            found._take(steps)
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

    def step(self, found: Outcome, todo: list[list[int]] | None = None) -> dict[str, bytes]:
        """Note what answers brought.

        Args:
            found: that.
            todo: the parts that are still to be asked about; None where they are those that there
                were before, without what was found.

        Returns:
            The fields to be stored: of a window of many calls, as few bytes for the last as for the
            first.
        """
        name = f"{self._search}:{self._steps}"
        self._steps += 1
        fields = {name: pack_outcome(found)}
        if todo is not None or self.todo is None:
            self.todo = todo or []
            fields |= self.state()
        return fields

    def _take(self, steps: list[Outcome]) -> None:
        """What earlier attempts found, and what they left."""
        for found in steps:
            self.outcome.rows += found.rows
            self.outcome.failures += found.failures
            self.outcome.retries += found.retries
            self.outcome.filtered += found.filtered
            self.outcome.model = found.model or self.outcome.model
        self.outcome.rows.sort(key=lambda row: row.ordinal)
        known = {row.ordinal for row in self.outcome.rows}
        for failure in (*self.outcome.failures, *self.outcome.retries):
            known.update(range(failure.first, failure.last + 1))
        if self.todo is not None:
            left = ([place for place in part if place not in known] for part in self.todo)
            self.todo = [part for part in left if part]

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


def _names(state: _State, fields: Mapping[str, bytes]) -> Iterator[str]:
    """Of the steps of a search: those that its state counts, and all that follow them."""
    for step in count():
        name = f"{state.search}:{step}"
        if step >= state.steps and name not in fields:
            return
        yield name


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
