"""``ack: done`` with windows that need more than ``max_ack_pending`` messages: somebody is told."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from celery import Celery

from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.ingest import stall as standstill
from sinfer.ingest.supervisor import Supervisor
from sinfer.operations.status import standing
from sinfer.store.connection import Store
from sinfer.tasks.hints import HintSender
from sinfer.windows.ids import Scope
from tests.integration.ingest.conftest import Stream, numbers
from tests.support.task_settings import product_of, settings_of
from tests.support.until import until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "window",
    [
        {"type": "tumbling", "size": "8760h", "time": "event"},
        {"type": "tumbling", "size": "8760h", "time": "event", "idle": "100ms"},
    ],
)
async def test_a_task_that_stands_still_says_so_once_with_the_remedy_until_it_goes_on(
    stream: Stream,
    nats_server: NatsServer,
    redis_server: RedisServer,
    unique: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    window: dict[str, Any],
) -> None:
    monkeypatch.setattr(standstill, "_QUIET_S", 0.5)
    caplog.set_level(logging.INFO, "sinfer.ingest.stall")
    await stream.create()
    await stream.add_durable("narrow", max_ack_pending=10)
    source = {"stream": unique, "servers": [nats_server.url], "durable": "narrow", "ack": "done"}
    product = product_of([settings_of("t", source=source, window=window)], unique)
    store, hints = Store(redis_server.url), HintSender(Celery(broker=redis_server.url))
    supervisor = Supervisor(store, product, hints)
    running = asyncio.create_task(supervisor.run())
    scope = Scope(unique, "t", ">")

    async def trouble() -> list[str]:
        [found] = await standing(store, [scope])
        assert found.total("fetched") <= 25
        return [text for text in found.trouble if "stands still" in text]

    async def fetched(count: int) -> bool:
        [found] = await standing(store, [scope])
        return found.total("fetched") == count

    def told() -> list[str]:
        found = [r for r in caplog.records if r.name == standstill.__name__]
        return [r.getMessage() for r in found if r.levelno == logging.WARNING]

    await stream.publish(numbers(10))
    await until(lambda: fetched(10))
    assert not await trouble()  # the limit is reached, and nothing waits

    await stream.publish(numbers(15, 10))

    async def stands_still() -> bool:
        return bool(await trouble())

    await until(stands_still)
    [text] = await trouble()
    assert "hold 10 messages, and consumer 'narrow' gives out no more" in text
    assert "15 wait" in text
    assert "Raise its max_ack_pending, make the windows smaller, or use ack: stored" in text
    assert len(told()) == 1
    assert told()[0].startswith(f"{scope}: stands still")

    await stream.add_durable("narrow", max_ack_pending=1000)
    await until(lambda: fetched(25))

    async def goes_on() -> bool:
        return not await trouble()

    await until(goes_on)
    assert len(told()) == 1
    supervisor.stop()
    await running
    hints.close()
    await store.aclose()
