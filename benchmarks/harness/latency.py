"""From a window's last message to the last of its results, by the clock of JetStream alone.

Both are the times at which JetStream stored a message: the window's last one in the stream that is
read, and its results in the stream that they go to. No process of the measurement is in the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def latencies_ms(
    published_ns: Sequence[int], results_ns: Mapping[int, int], *, items: int, skip: int
) -> list[float]:
    """How long each window took, milliseconds.

    Args:
        published_ns: when each message was stored, by its id.
        results_ns: when the result of each was.
        items: messages of a window; windows hold messages with consecutive ids.
        skip: messages at the beginning that do not count, whole windows.
    """
    found = []
    for first in range(skip, len(published_ns) - items + 1, items):
        last_result_ns = max(results_ns[number] for number in range(first, first + items))
        found.append((last_result_ns - published_ns[first + items - 1]) / 1e6)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed; nan of none."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
