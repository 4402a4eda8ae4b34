"""What the random histories of a store share: a partition of their own, and a clock they move."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.windows.specs import WindowSpec
from tests.integration.store.manual_store import ManualStore

R = TypeVar("R")


class History(RuleBasedStateMachine):
    """One history. ``spec`` and ``url`` are set by the test."""

    spec: WindowSpec
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.scope = Scope("p", f"t{uuid.uuid4().hex[:8]}", "in.>")
        self.store = ManualStore(self.url, f"clock:{self.scope.task}")
        self.do(self.store.advance(0))
        self.claims = PartitionClaims(self.store, self.scope)
        self.seq = self.fetched = 0
        self.event_time = 0

    def do(self, step: Coroutine[Any, Any, R]) -> R:
        return self.runner.run(step)
