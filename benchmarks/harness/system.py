"""What is timed: a system, the processes it consists of, and how many messages it gets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sinfer.embedded.services import Place, Service


@dataclass(frozen=True, slots=True)
class System:
    """One way to get from messages to results.

    Attributes:
        name: for the table and ``--only``.
        services: makes its processes; they are started in this order, at once.
        share: part of the workload's messages that it gets, for slow ones.
    """

    name: str
    services: Callable[[Place], list[Service]]
    share: float = 1.0
