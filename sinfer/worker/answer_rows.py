"""Which part of a model's answer belongs to some of the items that it was asked about.

When ``build_results`` fails on an answer, the model need not be asked again to find out for which
items: most answers have a row for each item, and can be cut as the window is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

_DEPTH = 5
"""So deep within lists and mappings rows are looked for."""


@runtime_checkable
class ByRows(Protocol):
    """An answer that knows its rows, as those of sinfer's own clients do."""

    def part_for(self, first: int, last: int, of: int) -> Any | None:
        """The answer to the items ``[first, last)`` of ``of``, as far as it has a row for each of
        them; None where none of it does."""

    def is_by_items(self, of: int) -> bool:
        """Whether all of it has a row for each of so many items."""


@dataclass(frozen=True, slots=True)
class CutAnswer:
    """An answer that can be cut.

    Attributes:
        response: the whole of it.
        items: how many items it is about.
        is_certain: whether its rows are those of the items beyond doubt. Where they only may be,
            as in a mapping that has lists of the right length among others, a part of it tells for
            which items ``build_results`` fails, and is good for no result.
    """

    response: Any
    items: int
    is_certain: bool

    def rows(self, first: int, last: int) -> Any:
        """The answer to the items ``[first, last)``."""
        return _cut(self.response, first, last, self.items, _DEPTH)


class _NoRowsError(Exception):
    """It is not known to have rows."""


def cut_answer(response: Any, items: int) -> CutAnswer | None:
    """The answer by rows; None where nothing in it looks like rows.

    Args:
        response: what the client returned.
        items: how many items it is about.
    """
    try:
        _cut(response, 0, 1, items, _DEPTH)
    except _NoRowsError:
        return None
    if isinstance(response, ByRows):
        return CutAnswer(response, items, response.is_by_items(items))
    is_certain = not isinstance(response, tuple | Mapping) and _length(response) == items
    return CutAnswer(response, items, is_certain)


def _cut(value: Any, first: int, last: int, items: int, depth: int) -> Any:
    if isinstance(value, str | bytes | bytearray | memoryview):
        raise _NoRowsError
    if isinstance(value, ByRows):
        found = value.part_for(first, last, items)
        if found is None:
            raise _NoRowsError
        return found
    if _length(value) == items:
        return value[first:last]
    if depth and isinstance(value, dict | list):
        return _cut_within(value, first, last, items, depth - 1)
    raise _NoRowsError


def _cut_within(
    value: dict[Any, Any] | list[Any], first: int, last: int, items: int, depth: int
) -> Any:
    """What has rows is cut, all else stays."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    found = {}
    for name, part in pairs:
        try:
            found[name] = _cut(part, first, last, items, depth)
        except _NoRowsError:
            continue
    if not found:
        raise _NoRowsError
    if isinstance(value, dict):
        return {**value, **found}
    return [found.get(place, part) for place, part in enumerate(value)]


def _length(value: Any) -> int | None:
    """How many rows something has that can be sliced: a list, a tuple, an array or a table."""
    if isinstance(value, list | tuple):
        return len(value)
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and shape and hasattr(value, "__getitem__"):
        return int(shape[0])
    return None
