"""The store agrees with the reference over random histories, for every type of window."""

from __future__ import annotations

import pytest

from sinfer.embedded.servers import RedisServer
from tests.integration.store.machine import Histories
from tests.support.histories import run_histories
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

    run_histories(Machine, histories)
