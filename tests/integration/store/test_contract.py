"""Redis, and the memory behind `sinfer run` and ``sinfer.testing``, are the same window store."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sinfer.embedded.servers import RedisServer
from tests.integration.store.contract import Contract
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

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
