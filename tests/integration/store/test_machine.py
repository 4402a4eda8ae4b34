"""The store agrees with the reference over random histories, for every type of window."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from sinfer.embedded.servers import RedisServer
from tests.integration.store.machine import Histories
from tests.support.window_reference import SPECS, window_spec


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize(
    "histories", [8, pytest.param(60, marks=pytest.mark.long)], ids=["some", "many"]
)
def test_the_store_agrees_with_the_reference(
    redis_server: RedisServer, name: str, histories: int
) -> None:
    class Machine(Histories):
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
