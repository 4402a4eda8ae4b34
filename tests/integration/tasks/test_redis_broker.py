"""Losing Redis with messages in hand raises nothing that would end a Celery worker."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from kombu import Connection, Queue
from kombu.transport.redis import SentinelChannel

from sinfer.embedded.servers import RedisServer
from sinfer.tasks import redis_broker as broker

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
    broker.install()
    with RedisServer() as server, Connection(server.url) as connection:
        message = message_in_hand(connection, connection.default_channel, f"{unique}-1")
        message_in_hand(connection, connection.channel(), f"{unique}-2")
        server.process.kill()
        # What Celery does when the broker is lost: the first try may fail, the second must not.
        with suppress(Exception):
            connection.collect()
        connection.close()
        message.ack()


def test_sentinel_is_served_as_well() -> None:
    broker.install()
    transport = Connection("sentinel://127.0.0.1:26379").get_transport_cls()
    assert transport is broker.SentinelTransport
    assert issubclass(transport.Channel, SentinelChannel)
