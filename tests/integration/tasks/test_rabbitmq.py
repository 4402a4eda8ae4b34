"""RabbitMQ that hangs, refuses a channel or refuses a user; a Redis that cannot be a broker."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from celery import Celery
from kombu import Queue

from sinfer.embedded.child_process import is_listening
from sinfer.embedded.servers import RedisServer
from sinfer.operations.preflight.servers import check_broker
from sinfer.settings import settings
from sinfer.tasks.application import make_app, waiting_messages
from sinfer.tasks.hints import HintSender
from sinfer.types.queues import product_queue
from sinfer.windows.ids import Scope
from tests.support.rabbitmq import RabbitMqServer
from tests.support.until import until_true

pytestmark = pytest.mark.integration

SCOPE = Scope("p", "t", ">")


@pytest.fixture(scope="module")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMqServer]:
    with RabbitMqServer(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def sender(rabbitmq: RabbitMqServer) -> Iterator[HintSender]:
    app = make_app([])
    app.conf.update(broker_url=rabbitmq.url)
    with closing(app), closing(HintSender(app)) as sender:
        sender.send(SCOPE, 1)
        until_true(lambda: waiting(rabbitmq) > 0)
        yield sender


def waiting(broker: RabbitMqServer) -> int:
    with closing(Celery(broker=broker.url)) as app, app.connection_for_write() as connection:
        return waiting_messages(connection.default_channel, product_queue("p"))


def comes_again(broker: RabbitMqServer, sender: HintSender) -> None:
    before = waiting(broker)

    def comes() -> bool:
        sender.send(SCOPE, 1)
        return waiting(broker) > before

    until_true(comes, lambda: sender.problem)


def test_a_broker_that_hangs_is_told_and_holds_up_nothing_once_it_answers(
    rabbitmq: RabbitMqServer, sender: HintSender
) -> None:
    os.killpg(rabbitmq.process.pid, signal.SIGSTOP)
    try:

        def is_told() -> bool:
            sender.send(SCOPE, 1)
            return "timed out" in sender.problem

        until_true(is_told, timeout_s=20)
    finally:
        os.killpg(rabbitmq.process.pid, signal.SIGCONT)
    comes_again(rabbitmq, sender)
    until_true(lambda: sender.problem == "")


def test_a_channel_that_the_broker_has_closed_is_used_no_more(
    rabbitmq: RabbitMqServer, sender: HintSender
) -> None:
    """A queue of other properties stands in the way, as one may that is not there yet."""
    queue = product_queue("other")
    with closing(Celery(broker=rabbitmq.url)) as app, app.connection_for_write() as connection:
        blocking = Queue(queue, durable=False).bind(connection.default_channel)
        blocking.declare()
        sender.send(Scope("other", "t", ">"), 1)
        until_true(lambda: "PRECONDITION_FAILED" in sender.problem)
        blocking.delete()
    comes_again(rabbitmq, sender)


async def test_a_user_or_virtual_host_that_it_does_not_know_is_told(
    rabbitmq: RabbitMqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"127.0.0.1:{rabbitmq.port}"
    for url, told in (
        (f"amqp://guest:wr0ng@{place}//", "refuses the user or password"),
        (f"amqp://guest:guest@{place}/none", "refuses the virtual host"),
    ):
        monkeypatch.setenv("SINFER_BROKER_URL", url)
        settings.cache_clear()
        finding = await check_broker()
        assert finding.verdict == "error"
        assert told in finding.text
        assert "wr0ng" not in finding.text


@pytest.mark.parametrize("database", [0, 1])
async def test_a_redis_cluster_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: int
) -> None:
    with RedisServer(tmp_path, low_port(), {"cluster-enabled": "yes"}) as server:
        url = server.url.removesuffix("0") + str(database)
        monkeypatch.setenv("SINFER_BROKER_URL", url)
        settings.cache_clear()
        finding = await check_broker()
    assert finding.verdict == "error"
    assert "it is a Redis Cluster, which cannot be a Celery broker; name" in finding.text


def low_port() -> int:
    """A free port for a member of a cluster, which takes another one that is 10,000 higher."""
    for port in range(20_000 + os.getpid() % 10_000, 45_000):
        if not is_listening(port) and not is_listening(port + 10_000):
            with suppress(OSError), socket.socket() as sock:
                sock.bind(("127.0.0.1", port))
                return port
    raise AssertionError("no port is free")
