"""Losing Redis with messages in hand raises nothing that would end a Celery worker."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from celery import Celery
from kombu import Queue
from kombu.transport.redis import SentinelChannel
from redis import Redis

from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import RedisServer
from sinfer.tasks import amqp_broker
from sinfer.tasks import redis_broker as broker
from sinfer.tasks.application import make_app
from sinfer.tasks.connection import Connection

pytestmark = pytest.mark.integration


def message_in_hand(connection: Any, channel: Any, queue_name: str) -> Any:
    """A message that is not acknowledged yet, while the channel waits for the next one."""
    taken: list[Any] = []
    consumer = connection.Consumer(
        [Queue(queue_name)], on_message=taken.append, channel=channel, prefetch_count=2
    )
    consumer.consume()
    connection.Producer(channel).publish("hint", routing_key=queue_name)
    while not taken:
        connection.drain_events(timeout=5)
    with suppress(TimeoutError):
        connection.drain_events(timeout=0.1)
    return taken[0]


def test_a_connection_that_lost_redis_can_be_closed_and_late_acknowledgements_go_nowhere(
    unique: str,
) -> None:
    with (
        RedisServer() as server,
        Connection(server.url) as connection,
    ):
        message = message_in_hand(connection, connection.default_channel, f"{unique}-1")
        message_in_hand(connection, connection.channel(), f"{unique}-2")
        server.process.kill()
        # What Celery does when the broker is lost: the first try may fail, the second must not.
        with suppress(Exception):
            connection.collect()
        connection.close()
        message.ack()


def test_a_message_that_redis_does_not_take_back_is_not_in_hand_any_more(unique: str) -> None:
    with RedisServer() as server, Connection(server.url) as connection:
        channel: Any = connection.default_channel
        message = message_in_hand(connection, channel, unique)
        with Redis.from_url(server.url) as redis:
            redis.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
            channel.basic_qos(0, 1, False)
            message.ack()
            assert channel.qos.can_consume()
            with pytest.raises(connection.connection_errors):
                connection.drain_events(timeout=5)
            redis.execute_command("REPLICAOF", "NO", "ONE")


def test_sentinel_is_served_as_well() -> None:
    transport = Connection("sentinel://127.0.0.1:26379").get_transport_cls()
    assert transport is broker.SentinelTransport
    assert issubclass(transport.Channel, SentinelChannel)


def test_the_next_of_several_brokers_has_a_transport_of_sinfers_as_well() -> None:
    first, second, third = "redis://127.0.0.1:1", "redis://127.0.0.1:2", "amqp://127.0.0.1:3"
    connection = Connection(f"{first};{second};{third}")
    for url, expected in ((second, broker.Transport), (third, amqp_broker.Transport)):
        connection.switch(url)
        assert connection.get_transport_cls() is expected
        assert connection.clone().get_transport_cls() is expected
        assert connection.as_uri().startswith(f"{url[:5]}")  # Flower asks for it


def test_another_application_of_the_process_keeps_the_transports_of_kombu() -> None:
    make_app([])
    for url in ("redis://127.0.0.1:1", "rediss://127.0.0.1:1", "sentinel://127.0.0.1:1", "amqp://"):
        with Celery("mine", broker=url).connection_for_write() as connection:
            assert connection.get_transport_cls().__module__.startswith("kombu.")
