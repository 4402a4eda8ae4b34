"""The workload: JSON messages of about 300 bytes, and the result that each must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sinfer.encoding import to_json
from sinfer.products.example.data import samples
from sinfer.products.example.demo import result_of
from sinfer.products.example.task import ExampleTask

WINDOW = 100
"""Messages in a window."""
WARM_UP = 1_000
"""Messages that go through a system before it is timed."""

THRESHOLD: float = ExampleTask.model_fields["threshold"].default
"""The tasks that are timed leave it as it is."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Messages, and their results by id. Ids count from 0."""

    messages: list[bytes]
    results: list[Mapping[str, Any]]

    def first(self, count: int) -> Workload:
        """The first ``count`` messages."""
        return Workload(self.messages[:count], self.results[:count])

    def __len__(self) -> int:
        return len(self.messages)


def make_workload(count: int) -> Workload:
    """The first ``count`` samples of the example product."""
    made = list(samples(count))
    return Workload(
        [to_json(sample) for sample in made],
        [result_of(sample, THRESHOLD) for sample in made],
    )
