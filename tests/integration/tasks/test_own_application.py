"""A product's own Celery application in a worker's process sees nothing of sinfer's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sinfer.embedded.servers import RedisServer
from tests.support.rabbitmq import RabbitMqServer

pytestmark = pytest.mark.integration

PRODUCT = """
import os

from celery import Celery

from sinfer import InferPipeline, Product
from sinfer.products.managers import StaticTaskManager

before = dict(os.environ)
mine = Celery("mine", broker=os.environ["MY_BROKER"])


@mine.task(name="mine.add")
def add(a, b):
    return a + b


class Pipeline(InferPipeline):
    def preprocess(self, message):
        return message.data

    def build_request(self, window):
        return list(window)

    def build_results(self, window, response):
        return []


product = Product("own", tasks=StaticTaskManager([]), pipeline=Pipeline)
"""

PROGRAM = """
import json, os
from celery import current_app, signals
import sinfer.tasks.celery as entry
from own import add, before, mine

sent = add.delay(1, b=2)
taken = []
with mine.connection_for_read() as connection:
    transport = connection.get_transport_cls().__module__
    with mine.amqp.TaskConsumer(connection.channel(), accept=["json"]) as consumer:
        consumer.callbacks = [lambda body, message: (taken.append(body), message.ack())]
        while not taken:
            connection.drain_events(timeout=20)
print(json.dumps({
    "transport": transport,
    "taken": taken[0][:2],
    "current": current_app.main,
    "pool": mine.conf.worker_pool,
    "consumer": mine.conf.worker_consumer,
    "scheduler": mine.conf.beat_scheduler,
    "queue": mine.conf.task_default_queue,
    "accepts": mine.conf.accept_content,
    "options": mine.conf.broker_transport_options,
    "of sinfer": sorted(name for name in mine.tasks if "sinfer" in name),
    "environment": dict(os.environ) == before,
    "is served": "own" in str(entry.app.conf.task_queues),
}))
"""


def seen_in_a_worker(folder: Path, window_store: str, broker: str) -> dict[str, object]:
    (folder / "own.py").write_text(PRODUCT)
    env = {name: value for name, value in os.environ.items() if not name.startswith("SINFER_")}
    settings = {
        "SINFER_PRODUCTS": "own", "SINFER_REDIS_URL": window_store,
        "SINFER_BROKER_URL": broker, "MY_BROKER": broker,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env={**env, **settings}, timeout=120,
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout)
    return found


UNTOUCHED = {
    "taken": [[1], {"b": 2}],
    "current": "mine",
    "pool": "prefork",
    "consumer": "celery.worker.consumer:Consumer",
    "scheduler": "celery.beat:PersistentScheduler",
    "queue": "celery",
    "accepts": ["json"],
    "options": {},
    "of sinfer": [],
    "environment": True,
    "is served": True,
}
"""What Celery has without sinfer; the message's arguments; and that sinfer serves the product."""


def test_it_works_over_redis_as_without_sinfer(tmp_path: Path) -> None:
    with RedisServer() as server:
        found = seen_in_a_worker(tmp_path, server.url, server.url)
    assert found == {**UNTOUCHED, "transport": "kombu.transport.redis"}


def test_it_works_over_rabbitmq_as_without_sinfer(tmp_path: Path) -> None:
    (tmp_path / "rabbitmq").mkdir()
    with RedisServer() as store, RabbitMqServer(tmp_path / "rabbitmq") as server:
        found = seen_in_a_worker(tmp_path, store.url, server.url)
    assert found == {**UNTOUCHED, "transport": "kombu.transport.pyamqp"}
