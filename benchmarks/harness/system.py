"""What is timed: a system, the processes it consists of, and how many messages it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.scenarios.workload import WINDOW
from sinfer.embedded.services import Place, Service


@dataclass(frozen=True, slots=True)
class System:
    """One way to get from messages to results.

    Attributes:
        name: for the table and ``--only``.
        services: makes its processes; they are started in this order, at once.
        share: part of the workload's messages that it gets, for slow ones.
        package: what it needs that is not of sinfer's; it is left out where that is missing.
        changes: of the tasks' settings, by part.
        work_queue: whether the streams that it reads have work-queue retention.
        model_ms: how long the model takes for a call, milliseconds.
        items: messages in a window.
        rate: messages a second that are published while it runs; as fast as it can by default,
            from streams that are full when it starts.
    """

    name: str
    services: Callable[[Place], list[Service]]
    share: float = 1.0
    package: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    work_queue: bool = False
    model_ms: float = 0.0
    items: int = WINDOW
    rate: float | None = None
