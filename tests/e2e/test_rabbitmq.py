"""RabbitMQ as the broker: hints and ticks travel, stay few without a worker, and may be lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from sinfer.tasks.application import make_app, waiting_messages
from sinfer.tasks.hints import MOST_WAITING, HintSender
from sinfer.types.queues import TICK_QUEUE, product_queue
from sinfer.windows.ids import Scope
from tests.support.deployment import Connections, Deployment, numbers, ordered, wait_for_log
from tests.support.rabbitmq import RabbitMqServer
from tests.support.until import until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

MESSAGES = 3000

_HEADERS = {"task": "sinfer.process", "id": "x", "lang": "py"}
HOSTILE: list[tuple[str | bytes, Any]] = [
    ("[1]", _HEADERS),
    ("[[], {}, {}]", {**_HEADERS, "timelimit": "x"}),
    ("[[], {}, {}]", {**_HEADERS, "eta": "garbage"}),
    ("[[], {}, {}]", {**_HEADERS, "expires": [1]}),
    ('[[], {}, {"callbacks": [{"a": 1}], "chord": 3}]', {**_HEADERS, "id": None}),
    ("nonsense", _HEADERS),
    (b"\xff\xfe", _HEADERS),
    ("", {}),
    ("{}", {"task": 7}),
]


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with Deployment(tmp_path) as deployment:
        deployment.start_servers()
        yield deployment


def waiting(broker: RabbitMqServer, product: str) -> tuple[int, int]:
    """How many ticks and hints wait in the broker."""
    with closing(Celery(broker=broker.url)) as app, app.connection_for_write() as connection:
        channel = connection.default_channel
        return (
            waiting_messages(channel, TICK_QUEUE),
            waiting_messages(channel, product_queue(product)),
        )


async def test_all_of_it_works_with_rabbitmq_as_the_broker(
    connections: Connections, tmp_path: Path
) -> None:
    """First without a worker, then with one, then the broker is killed while it works."""
    deployment = connections.deployment
    broker = RabbitMqServer(tmp_path / "rabbitmq")
    with broker:
        deployment.variables["SINFER_BROKER_URL"] = broker.url
        deployment.start(deployment.ingest(), deployment.beat())
        window = {"type": "tumbling", "size": "1s", "max_count": 1}
        tasks = [
            await ordered(deployment, connections, f"task{n}", window=window) for n in range(3)
        ]
        for task in tasks:
            await connections.publish(task, numbers(0, 300))

        async def all_wait() -> bool:
            return all([(await connections.account(task)).held == 300 for task in tasks])

        await until(all_wait, "all windows to wait")
        await until(lambda: waiting(broker, deployment.product)[1] > 0, "hints to be sent")
        ticks, hints = waiting(broker, deployment.product)
        assert ticks <= 2
        assert hints <= MOST_WAITING + 50
        worker = deployment.worker()
        deployment.start(worker)
        for task in tasks:
            await connections.settled(task, 300)

        def is_empty() -> bool:
            return sum(waiting(broker, deployment.product)) <= 2

        await until(is_empty, "hints to be taken")
        # Its windows close by the clock, so these wait for ticks.
        last = await ordered(
            deployment, connections, "last", window={"type": "tumbling", "size": "1s"}
        )
        await connections.publish(last, numbers(0, MESSAGES // 2))
        await connections.settled(last, MESSAGES // 2)
        broker.process.kill()
        await connections.publish(last, numbers(MESSAGES // 2, MESSAGES))
        broker.start()
        await connections.settled(last, MESSAGES, timeout_s=90)
        assert (await connections.account(last)).balances


async def test_hints_travel_again_after_the_broker_was_killed(tmp_path: Path) -> None:
    with RabbitMqServer(tmp_path / "rabbitmq") as broker:
        app = make_app([])
        app.conf.update(broker_url=broker.url)
        sender = HintSender(app)
        scope = Scope("p", "t", ">")
        with closing(sender):
            sender.send(scope, 1)
            await until(lambda: waiting(broker, "p")[1] == 1, "a hint")
            broker.process.kill()
            sender.send(scope, 1)
            broker.start()
            before = waiting(broker, "p")[1]

            def comes_again() -> bool:
                sender.send(scope, 1)
                return waiting(broker, "p")[1] > before

            await until(comes_again, "hints to travel again")
        app.close()


async def test_a_message_that_is_none_of_sinfers_ends_no_worker(
    connections: Connections, tmp_path: Path
) -> None:
    """Bodies, headers and properties that end Celery's own consumer, or would be trusted."""
    deployment = connections.deployment
    with RabbitMqServer(tmp_path / "rabbitmq") as broker:
        deployment.variables["SINFER_BROKER_URL"] = broker.url
        worker = deployment.worker()
        deployment.start(deployment.ingest(), worker)
        task = await ordered(deployment, connections, "task")
        queue = product_queue(deployment.product)
        waiting(broker, deployment.product)  # declares it: a worker that is ready may not have yet
        with closing(Celery(broker=broker.url)) as app, app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            for body, headers in HOSTILE:
                message = channel.prepare_message(
                    body, 0, "application/json", "utf-8", headers, properties={}
                )
                channel.basic_publish(message, exchange="", routing_key=queue)
            await wait_for_log(worker, "is none of sinfer's and is dropped")
        await connections.process(task, 0, 20)
        assert worker.process.is_running
        assert "Unrecoverable" not in worker.process.log.read_text()
        await until(lambda: waiting(broker, deployment.product)[1] == 0, "all to be taken")
