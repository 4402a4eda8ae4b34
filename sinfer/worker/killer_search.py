"""Which item of a window ends its worker: half of them at a time, over several attempts.

Nobody can catch a segmentation fault, ``os._exit`` or the kernel's OOM killer. But before some
items are tried it is stored which; if the worker then dies, the next one finds that note, and tries
half of them. What came through is stored as well and is not tried again:

    40 tried, died  ->  20 tried, done · 20 tried, died  ->  10 tried, died  ->  ...  ->  1 died

A single item is blamed when workers died with it more than once: the first time may have been
chance, such as a machine that went down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from sinfer.worker.outcome import Outcome

SearchStage: TypeAlias = Literal["inference", "sink"]

_BLAMED_AFTER = 2
"""Deaths with a single item, and nothing else, after which it is to blame."""

_KILLERS_LOOKED_FOR = 3
"""So many of a window are told from its other items. When there are more, as when a library crashes
whatever it is given, what is not known to be harmless is given up."""


class KillerSearch(msgspec.Struct, array_like=True):
    """How far the search has come; kept with the window.

    Attributes:
        stage: what kills: asking the model, with all hooks around it, or writing the results.
        todo: groups of places that are still to be tried.
        trying: the group that is being tried; empty when none is.
        deaths: how many workers had died with the window when that began.
        hits: how many died with a single item, by its place.
        blamed: the places of items that were found.
        outcome: what came of the items that were tried, while the window's outcome is not whole.
    """

    stage: SearchStage
    todo: list[list[int]]
    trying: list[int] = []
    deaths: int = 0
    hits: dict[int, int] = {}
    blamed: list[int] = []
    outcome: Outcome | None = None

    @classmethod
    def begin(cls, stage: SearchStage, places: Sequence[int], deaths: int) -> KillerSearch:
        """Start with all items that may be it; a worker has just died with them."""
        return cls(stage, [], list(places), deaths - 1, outcome=Outcome())

    def note_death(self, deaths: int, least: int = 0) -> None:
        """Go on after an attempt has ended.

        Args:
            deaths: how many workers have died with the window. If there are no more than when the
                last group was tried, that attempt ended in another way, and blames nobody.
            least: before so many have died nobody is blamed.
        """
        group, self.trying = self.trying, []
        if not group:
            return
        if deaths <= self.deaths:
            self.todo.insert(0, group)
        elif len(group) > 1:
            middle = len(group) // 2
            self.todo[:0] = [group[:middle], group[middle:]]
        else:
            [place] = group
            self.hits[place] = self.hits.get(place, 0) + 1
            if self.hits[place] >= _BLAMED_AFTER and deaths >= least:
                self.blamed.append(place)
            else:
                self.todo.insert(0, group)

    def next_group(self, deaths: int) -> list[int]:
        """Take the next group to try; store the search before it is tried. Empty at the end."""
        self.deaths = deaths
        self.trying = self.todo.pop(0) if self.todo else []
        return self.trying

    def give_up(self) -> list[int]:
        """Stop searching; returns the places of which nothing is known."""
        left = [place for group in (self.trying, *self.todo) for place in group]
        self.trying, self.todo = [], []
        return left


def most_deaths(items: int) -> int:
    """Workers that a window may cost before the search is given up."""
    halvings = max(1, items - 1).bit_length()
    return 2 + _KILLERS_LOOKED_FOR * (halvings + _BLAMED_AFTER)


def reason(deaths: int, *, alone: bool) -> str:
    """What is told of an item that is given up.

    Args:
        deaths: how many workers died.
        alone: whether they did with this item and no other.
    """
    how = "killed, crashed or out of memory: how is not known"
    if alone:
        return f"its worker died while processing this item alone, {deaths} times ({how})"
    return f"its worker died or was lost in each of {deaths} attempts ({how})"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(KillerSearch)


def pack_search(search: KillerSearch) -> bytes:
    """Encode a search for the store."""
    return _encoder.encode(search)


def unpack_search(blob: bytes) -> KillerSearch:
    """Decode a search.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _decoder.decode(blob)


def search_of(blob: bytes, stage: SearchStage) -> KillerSearch | None:
    """The search of a stage; None where none was begun, or it was written by another version."""
    if not blob:
        return None
    try:
        search = unpack_search(blob)
    except msgspec.DecodeError:
        return None
    return search if search.stage == stage else None
