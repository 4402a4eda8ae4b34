"""Hints are few, stand for all windows, and never make anyone wait."""

from __future__ import annotations

import logging
import threading
from collections import Counter

import pytest
from celery import Celery

from sinfer.embedded.child_process import free_port
from sinfer.tasks.application import make_app, waiting_messages
from sinfer.tasks.hints import MOST_WAITING, HintSender
from sinfer.types.queues import product_queue
from sinfer.windows.ids import Scope
from tests.support.until import until_true


def test_hints_of_a_partition_are_one_message_and_the_queue_has_an_end_whoever_is_absent() -> None:
    app = make_app([])
    app.conf.update(broker_url="memory://bounded")
    partitions = 2 * MOST_WAITING
    sent = threading.Semaphore(0)
    hints = HintSender(app, sent=lambda _: sent.release())
    for round_ in range(3):
        for place in range(partitions):
            hints.send(Scope("p", "t", str(place)), 1 + round_)
    for _ in range(MOST_WAITING):
        assert sent.acquire(timeout=10)
    hints.send(Scope("other", "t", "p"), 1)  # has a queue of its own, with room
    assert sent.acquire(timeout=10)
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        assert waiting_messages(channel, product_queue("p")) == MOST_WAITING
        assert waiting_messages(channel, product_queue("other")) == 1
        taken = Counter[str]()
        queue = connection.SimpleQueue(product_queue("p"))
        while taken.total() < MOST_WAITING:
            message = queue.get(block=False)
            taken[message.payload[1]["partition"]] += 1
            message.ack()

        def all_are_told_of() -> bool:  # there is room again: the others follow
            while waiting_messages(channel, product_queue("p")):
                message = queue.get(block=False)
                taken[message.payload[1]["partition"]] += 1
                message.ack()
            return set(taken) == {str(place) for place in range(partitions)}

        until_true(all_are_told_of)
    hints.close()


def test_no_windows_are_no_message_unless_it_is_wanted() -> None:
    app = make_app([])
    app.conf.update(broker_url="memory://none")
    sent: list[int] = []
    hints = HintSender(app, sent=sent.append)
    hints.send(Scope("p", "t", "none"), 0)
    hints.send(Scope("p", "t", "always"), 0, always=True)
    hints.close(timeout_s=30)
    assert sent == [1]


def test_a_broker_that_is_away_is_told_once_and_holds_up_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Celery("test", broker=f"redis://127.0.0.1:{free_port()}/0")
    app.conf.broker_transport_options = {"max_retries": 0, "socket_connect_timeout": 1}
    hints = HintSender(app)
    with caplog.at_level(logging.WARNING, "sinfer.tasks.hints"):
        for place in range(3):
            hints.send(Scope("p", "t", str(place)), 1)
        hints.close(timeout_s=30)
    told = [record for record in caplog.records if "takes no messages" in record.getMessage()]
    assert len(told) == 1
    assert told[0].exc_info is None
