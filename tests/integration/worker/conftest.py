"""A partition with one task, whose windows a test tries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sinfer.store.connection import Store
from tests.integration.worker.bench import Bench, Judging


@pytest.fixture
async def bench(store: Store, unique: str) -> AsyncIterator[Bench]:
    bench = Bench(store, unique)
    Judging.patience.clear()
    yield bench
    await bench.aclose()
