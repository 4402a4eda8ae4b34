"""Whether a sink holds exactly one correct result for each message."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RELATIVE_TOLERANCE = 1e-5
ABSOLUTE_TOLERANCE = 1e-6


@dataclass(slots=True)
class SinkCheck:
    """What was found in one sink.

    Attributes:
        sink: its name, for people.
        expected: how many results it should hold.
        found: how many it holds.
        missing: ids without a result.
        repeated: ids with several results.
        wrong: ids whose result is not the expected one.
        unknown: ids that nobody published.
    """

    sink: str
    expected: int
    found: int = 0
    missing: list[Any] = field(default_factory=list)
    repeated: list[Any] = field(default_factory=list)
    wrong: list[Any] = field(default_factory=list)
    unknown: list[Any] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether there is exactly one correct result for each message, and nothing else."""
        return not (self.missing or self.repeated or self.wrong or self.unknown)

    def describe(self) -> str:
        """One line: all is right, or how many of what are not, with a few ids."""
        if self.is_right:
            return f"{self.sink}: {self.found:,} results, exactly one correct for each message"
        parts = [
            f"{len(ids):,} {what} (id {', '.join(str(id) for id in ids[:3])}"
            f"{', …' if len(ids) > 3 else ''})"
            for what, ids in (
                ("missing", self.missing),
                ("more than once", self.repeated),
                ("wrong", self.wrong),
                ("never published", self.unknown),
            )
            if ids
        ]
        return f"{self.sink}: {'; '.join(parts)}"


def check_sink(
    sink: str,
    expected: Mapping[Any, Mapping[str, Any]],
    results: Iterable[Mapping[str, Any]],
    identify: Callable[[Mapping[str, Any]], Any],
) -> SinkCheck:
    """Compare what a sink holds with what it should hold.

    Args:
        sink: its name, for people.
        expected: the right result for each id.
        results: all results that the sink holds.
        identify: makes the id of a result.
    """
    check = SinkCheck(sink, len(expected))
    seen: set[Any] = set()
    for result in results:
        check.found += 1
        id = identify(result)
        if id not in expected:
            check.unknown.append(id)
        elif id in seen:
            check.repeated.append(id)
        elif not is_close(expected[id], result):
            check.wrong.append(id)
        seen.add(id)
    check.missing = [id for id in expected if id not in seen]
    return check


def is_close(expected: Any, actual: Any) -> bool:
    """Whether two JSON values are equal, numbers within single precision."""
    if isinstance(expected, bool) or isinstance(actual, bool):
        return expected is actual
    if isinstance(expected, int | float) and isinstance(actual, int | float):
        return math.isclose(
            expected, actual, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE
        )
    if isinstance(expected, Mapping) and isinstance(actual, Mapping):
        return expected.keys() == actual.keys() and all(
            is_close(value, actual[name]) for name, value in expected.items()
        )
    if isinstance(expected, list) and isinstance(actual, list):
        return len(expected) == len(actual) and all(map(is_close, expected, actual))
    return bool(expected == actual)
