"""Redis, and the memory behind `sinfer run` and ``sinfer.testing``, are the same window store."""

from __future__ import annotations

import pytest

from sinfer.embedded.servers import RedisServer
from tests.integration.store.contract import Contract
from tests.support.histories import run_histories
from tests.support.window_reference import SPECS, window_spec


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    "histories", [8, pytest.param(100, marks=pytest.mark.long)], ids=["some", "many"]
)
def test_a_history_goes_the_same_way_in_redis_and_in_memory(
    redis_server: RedisServer, name: str, histories: int
) -> None:
    class Machine(Contract):
        spec = window_spec(**SPECS[name])
        url = redis_server.url

    run_histories(Machine, histories)
