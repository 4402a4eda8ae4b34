"""How many copies of each result a log of results has, by the keys that its entries carry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from sinfer.errors import SinkUnavailableError
from sinfer.types.result import ResultRow, WindowResults

MOST_ENTRIES = 5_000_000
"""A log of more entries is not gone through: their keys would take too much memory."""


class StoredKeys:
    """Counts keys as a log is gone through; a key takes about 100 bytes.

    Results of a rerun stand for those that they replace: they are no copies.
    """

    def __init__(self) -> None:
        self._copies: dict[bytes, int] = {}
        self._replaced: set[bytes] = set()

    def add(self, key: str, replaces: str = "") -> None:
        """Count an entry.

        Args:
            key: what its sink knows it by.
            replaces: the key of the result that it replaces; empty for none.

        Raises:
            SinkUnavailableError: there are too many.
        """
        if replaces:
            self._replaced.add(_short(replaces))
            return
        name = _short(key)
        self._copies[name] = self._copies.get(name, 0) + 1
        if len(self._copies) > MOST_ENTRIES:
            raise SinkUnavailableError(f"it has more than {MOST_ENTRIES} results")

    def of(
        self, windows: Sequence[WindowResults], key: Callable[[WindowResults, ResultRow], str]
    ) -> list[dict[int, int]]:
        """For each window the copies of its results, by ordinal; 0 where there is none."""
        return [{row.ordinal: self._of(key(window, row)) for row in window} for window in windows]

    def _of(self, key: str) -> int:
        name = _short(key)
        return self._copies.get(name, 0) or int(name in self._replaced)


def _short(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=12).digest()
