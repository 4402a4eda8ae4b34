"""What can break: each fault is begun, lasts for a while, and is ended again."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from tests.chaos.load import Load
from tests.chaos.progress import Progress
from tests.chaos.site import Site


@dataclass(frozen=True)
class World:
    """What faults act on.

    Attributes:
        site: servers, proxies and processes.
        progress: the driver's own connections.
        load: what is published.
        random: the only source of chance.
    """

    site: Site
    progress: Progress
    load: Load
    random: random.Random


Breaks = Callable[[World], AbstractAsyncContextManager[str]]


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: for the report.
        breaks: breaks something when it is entered, giving a word on what, and mends it when it is
            left.
        weight: how often it is drawn, relative to the others.
        least_s, most_s: how long it lasts.
        is_timed: whether the promise of how soon all moves again is about it.
        is_slow: whether it takes minutes until all is finished.
    """

    name: str
    breaks: Breaks
    weight: float = 1.0
    least_s: float = 0.0
    most_s: float = 0.0
    is_timed: bool = True
    is_slow: bool = False
