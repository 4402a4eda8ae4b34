"""One item of each identity in a window: the ``dedupe`` setting."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal


def kept_places(ids: Sequence[Hashable], keep: Literal["first", "last"]) -> list[int]:
    """Places of the items to keep, in their order.

    Args:
        ids: what ``item_id`` returned for the items of a window, in the order of the stream.
        keep: which item of an identity stays.
    """
    if keep == "first":
        place_of: dict[Hashable, int] = {}
        for place, item_id in enumerate(ids):
            place_of.setdefault(item_id, place)
        return list(place_of.values())
    return sorted({item_id: place for place, item_id in enumerate(ids)}.values())
