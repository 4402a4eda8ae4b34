"""What the random histories of a store share: a partition of their own, and a clock they move."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine

from sinfer.store.work.claims import PartitionClaims
from sinfer.windows.ids import Scope
from sinfer.windows.specs import WindowSpec
from tests.integration.store.manual_store import ManualStore

R = TypeVar("R")


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "k/{1}"]),
        st.one_of(st.integers(0, 12), st.integers(-60, 60), st.sampled_from([200, -200])),
        st.integers(1, 3),
    ),
    max_size=10,
)
"""A batch of messages: the key of each, how far it moves event time, and its size."""


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
