"""How long a model takes to answer, by the number of items it is asked about.

Latency is taken to be ``a + b·n``: what each call costs, and what each item adds. The two are
fitted to the calls of late by least squares, in which older calls weigh less and less. How far off
a call usually is, is learned beside, as TCP does for its round trips (RFC 6298): what is expected
of a call is its place on the curve and a few times that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from typing import Self

DEVIATIONS = 3.0
"""So many mean deviations above the curve a call may take and still be as expected."""

_FEW = 3.0
"""Below this weight of calls nothing is said of them."""


@dataclass(frozen=True, slots=True)
class CallSums:
    """Sums over calls, by which their curve is known.

    Attributes:
        weight: of the calls: 1 for each when it comes, less and less afterwards.
        items, ms: of all of them: items asked about, and how long they took, milliseconds.
        items_items, items_ms: items squared, and items times milliseconds.
        off_ms: by how much they were off the curve that was known at the time, milliseconds.
    """

    weight: float = 0.0
    items: float = 0.0
    ms: float = 0.0
    items_items: float = 0.0
    items_ms: float = 0.0
    off_ms: float = 0.0

    @classmethod
    def of(cls, calls: Iterable[tuple[int, float]], curve: LatencyCurve | None) -> Self:
        """The sums over calls, each given by its items and how long it took, milliseconds.

        Args:
            calls: the calls.
            curve: what was expected of them; None while that is not known.
        """
        weight = items = ms = items_items = items_ms = off_ms = 0.0
        for n, took_ms in calls:
            weight += 1
            items += n
            ms += took_ms
            items_items += n * n
            items_ms += n * took_ms
            expected_ms = took_ms / 2 if curve is None else curve.mean_ms(n)
            off_ms += abs(took_ms - expected_ms)
        return cls(weight, items, ms, items_items, items_ms, off_ms)

    @classmethod
    def read(cls, kept: Mapping[str, str]) -> Self:
        """From texts, as a store keeps them; what is no number there counts as nothing.

        Args:
            kept: by the names of the attributes.
        """
        try:
            return cls(*(float(kept.get(field.name) or 0) for field in fields(cls)))
        except ValueError:
            return cls()

    def values(self) -> tuple[float, ...]:
        """In the order of the attributes."""
        return astuple(self)


@dataclass(frozen=True, slots=True)
class LatencyCurve:
    """What is known of how long calls take.

    Attributes:
        call_ms: what each call costs, milliseconds.
        item_ms: what each item adds.
        deviation_ms: how far off calls are, on the average.
    """

    call_ms: float
    item_ms: float
    deviation_ms: float = 0.0

    @classmethod
    def fitted(cls, sums: CallSums) -> Self | None:
        """The curve of least squares; None where too few calls are known.

        Neither part of it is below zero, whatever the calls were like. Where all of them asked
        about equally many items, they tell nothing of what one adds, and nothing is said of it.
        """
        weight = sums.weight
        if not weight >= _FEW:
            return None
        mean_items, mean_ms = sums.items / weight, sums.ms / weight
        spread = sums.items_items / weight - mean_items**2
        item_ms = 0.0
        if spread > 1e-6 * max(1.0, mean_items**2):
            item_ms = max(0.0, (sums.items_ms / weight - mean_items * mean_ms) / spread)
        if mean_items > 0:
            item_ms = min(item_ms, mean_ms / mean_items)
        return cls(mean_ms - item_ms * mean_items, item_ms, sums.off_ms / weight)

    def mean_ms(self, items: int) -> float:
        """How long calls about so many items take, on the average, milliseconds."""
        return self.call_ms + self.item_ms * items

    def expected_ms(self, items: int) -> float:
        """How long a call about so many items has to be expected to take, milliseconds."""
        return self.mean_ms(items) + DEVIATIONS * self.deviation_ms
