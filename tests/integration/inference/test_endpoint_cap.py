"""The cap on calls at once, kept by many processes on a real server, and by those that crash."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from sinfer.embedded.servers import RedisServer
from sinfer.errors import InferenceError
from sinfer.inference.v2.client import V2Client
from sinfer.store.boards.endpoints import EndpointState, Place
from sinfer.store.connection import Store
from sinfer.worker import endpoint_guard as guard_module
from sinfer.worker.endpoint_guard import EndpointGuard
from tests.support.scripted_model import Answer, ScriptedModel
from tests.support.until import until, until_true

pytestmark = pytest.mark.integration

PROCESSES = 8
CALLS_EACH = 4
CAP = 3
_PATIENCE_S = 120.0


def hammer(number: int, redis_url: str, model_url: str) -> None:
    """Call the model forever, with more calls at once than anybody may have under way."""
    guard_module.GRACE_MS = 500
    asyncio.run(_hammer(number, redis_url, model_url))


async def _hammer(number: int, redis_url: str, model_url: str) -> None:
    config = V2Client.Config.model_validate(
        {
            "type": "v2", "url": model_url, "model": "example", "timeout": "2s",
            "endpoint_concurrency": CAP, "max_concurrency": CALLS_EACH,
        }
    )  # fmt: skip
    client = V2Client(config)
    guard = EndpointGuard(Store(redis_url), client.called, config)
    tensor = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0.0]}

    async def call() -> None:
        while True:
            with suppress(InferenceError):
                async with guard.slot(1, None):
                    await client.infer({"inputs": [tensor]}, idempotency_key=f"{number}")

    await asyncio.gather(*(call() for _ in range(CALLS_EACH)))


@pytest.fixture
def model() -> Iterator[ScriptedModel]:
    with ScriptedModel() as model:
        yield model


@pytest.fixture
def processes(redis_server: RedisServer, model: ScriptedModel) -> Iterator[list[BaseProcess]]:
    context = multiprocessing.get_context("spawn")
    started: list[BaseProcess] = []
    try:
        for number in range(PROCESSES):
            arguments = (number, redis_server.url, model.url)
            process: BaseProcess = context.Process(target=hammer, args=arguments)
            process.start()
            started.append(process)
        yield started
    finally:
        for process in started:
            process.kill()
            process.join()
            process.close()


def test_eight_processes_keep_the_cap_and_crashed_ones_give_their_places_back(
    processes: list[BaseProcess], model: ScriptedModel
) -> None:
    model.delay_s = 0.01

    def have_all_called() -> bool:
        calls = Counter(call.key for call in list(model.calls))
        return len(calls) == PROCESSES and min(calls.values()) >= 5

    until_true(have_all_called)
    until_true(lambda: model.most_at_once == CAP)

    # All places are held by calls that hang, and those who made them are killed.
    model.script.extend([Answer(0)] * CAP)
    until_true(lambda: not model.script)
    until_true(lambda: model.at_once == CAP)
    holders = {int(call.key) for call in list(model.calls)[-CAP:]}
    for number in holders:
        pid = processes[number].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    so_far = len(model.calls)
    until_true(lambda: len(model.calls) > so_far + 20)
    assert model.most_at_once == CAP


async def test_of_all_calls_that_wait_in_a_process_one_asks_for_a_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = V2Client.Config.model_validate(
        {"type": "v2", "url": "http://model", "model": "m", "endpoint_concurrency": 1}
    )
    other, guard = (EndpointGuard(store, "the only place", config) for _ in range(2))
    asked: list[str] = []
    take_place = EndpointState.take_place

    async def noting(state: EndpointState, place: Place, **how: Any) -> tuple[bool, int]:
        asked.append(place.holder)
        return await take_place(state, place, **how)

    done: list[int] = []

    async def call(number: int) -> None:
        async with guard.slot(1, None):
            done.append(number)

    async with other.slot(1, None):
        monkeypatch.setattr(EndpointState, "take_place", noting)
        calls = [asyncio.create_task(call(number)) for number in range(30)]
        await until(lambda: len(asked) >= 5)
        assert len(set(asked)) == 1
    await asyncio.gather(*calls)
    assert done == list(range(30)), "in the order in which they came"
