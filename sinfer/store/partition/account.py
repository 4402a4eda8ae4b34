"""The account of a partition: every message that was fetched is somewhere.

    fetched = buffered + in flight + sunk + dead + filtered + late

A message counts as sunk, or as dead when one of its windows gave it up, once its last window is
done. Messages of sliding windows, and of windows that may fire again, stay in shared segments until
then; the store knows how many each segment holds, and counts them when it frees the segment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sinfer.store.keys import TAKEN_FIELD
from sinfer.windows.records import ClosedWindow, WindowRecord


class Count:
    """What commits and completions add up, by the names that the store has for it."""

    FETCHED: Final = "fetched"
    FILTERED: Final = "filtered"
    LATE: Final = "late"
    DEAD: Final = "dead"
    SUNK: Final = "sunk"
    RESULTS: Final = "results"
    FRUITLESS: Final = "fruitless"
    RESULTS_NEW: Final = "results_new"
    RESULTS_KNOWN: Final = "results_known"
    RESULTS_COLLIDED: Final = "results_collided"
    WINDOWS: Final = "windows"  # windows that are done
    TAKEN: Final = TAKEN_FIELD  # of these, windows of which at least one item came through
    DISCARDED: Final = "discarded"  # messages that the stream removed before they were read
    OTHER_VERSION: Final = "other_version"  # windows done by another version than opened them
    REDRIVEN: Final = "redriven"  # dead letters that were redriven


COUNTS = (Count.FETCHED, Count.FILTERED, Count.LATE, Count.DEAD, Count.SUNK)
"""What becomes of messages; see ``Account``."""

CONFIRMED_COUNTS = (Count.RESULTS_NEW, Count.RESULTS_KNOWN, Count.RESULTS_COLLIDED)
"""What sinks confirm of results; see ``Account``."""

OTHER_COUNTS = (Count.DISCARDED, Count.RESULTS, Count.FRUITLESS, *CONFIRMED_COUNTS)
"""What there is apart from the messages that were fetched; see ``Account``."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the messages of a partition are.

    Attributes:
        fetched: taken from the stream.
        filtered: filtered out by ``preprocess``, at ingest or, of one window at least, by a worker.
        late: dropped because they came too late.
        dead: dead-lettered.
        sunk: done.
        buffered: in open windows.
        in_flight: in windows that are closed and not done.
        discarded: what the stream removed before it was read, so that it was never fetched; where
            only some of a stream's subjects are read, about so many. Should be 0.
        results: results that sinks have. These are counted apart from messages: there may be any
            number for each. A window that is processed again adds its results once more.
        fruitless: messages among the ``sunk`` of whose windows there was no result at all; of
            windows that share messages, once for each window.
        results_new: results that sinks stored, once for each sink that can tell.
        results_known: results that were there already, as after a worker died behind its writes.
        results_collided: results that a sink has under the key of something else. They are dead
            letters.
    """

    fetched: int
    filtered: int
    late: int
    dead: int
    sunk: int
    buffered: int
    in_flight: int
    discarded: int = 0
    results: int = 0
    fruitless: int = 0
    results_new: int = 0
    results_known: int = 0
    results_collided: int = 0

    @property
    def missing(self) -> int:
        """Messages that are nowhere; less than 0 when some are counted twice. Must be 0."""
        somewhere = self.filtered + self.late + self.dead + self.sunk
        return self.fetched - somewhere - self.buffered - self.in_flight


def add_up(
    counts: Mapping[str, int],
    opened: Mapping[str, WindowRecord],
    closed: Mapping[str, ClosedWindow],
    segment_sizes: Mapping[str, int],
) -> Account:
    """The account of a partition by what the store has of it, all seen at one moment.

    Args:
        counts: ``COUNTS`` and ``OTHER_COUNTS``, by their names.
        opened, closed: windows by id.
        segment_sizes: messages in shared segments.
    """
    buffered = sum(record.count for record in opened.values())
    in_flight = sum(segment_sizes.values())
    in_flight -= sum(r.count for name, r in opened.items() if name in segment_sizes)
    in_flight += sum(w.record.count for w in closed.values() if not w.shares_segments)
    return Account(buffered=buffered, in_flight=in_flight, **counts)
