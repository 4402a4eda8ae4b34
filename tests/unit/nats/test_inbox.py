"""What is used of nats-py without its promise: this fails when a new version changes it."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from sinfer.nats.inbox import Inbox, parse_ack_subject, publish_to_each

FIELDS = (2, 41, 97, 1_700_000_000_123_456_789, 5)
TAIL = ".".join(str(field) for field in FIELDS)
REPLY = f"$JS.ACK.IN.d.{TAIL}"


def _payloads(inbox: Inbox, limit: int) -> list[bytes]:
    deliveries, _ = inbox.take(limit)
    return [message.data for message, *_ in deliveries]


def _inbox(payloads: list[bytes]) -> tuple[Inbox, Subscription]:
    client = Client()
    subscription = Subscription(client, 1, "_INBOX.a")
    client._subs[1] = subscription
    for payload in payloads:
        subscription._pending_queue.put_nowait(Msg(client, data=payload, reply=REPLY))
        subscription._pending_size += len(payload)
    return Inbox(client, subscription), subscription


async def test_a_subscription_keeps_messages_in_an_asyncio_queue_and_counts_their_bytes() -> None:
    client = Client()
    subscription = Subscription(client, 1, "_INBOX.a", pending_msgs_limit=2)
    client._subs[1] = subscription
    await client._process_msg(1, b"_INBOX.a", REPLY.encode(), b"data", b"")
    assert type(subscription._pending_queue) is asyncio.Queue
    assert subscription._pending_queue.maxsize == 2
    inbox = Inbox(client, subscription)
    assert (inbox.buffered, inbox.buffered_bytes) == (1, 4)
    ((message, *fields),), _ = inbox.take(10)
    assert (message.data, message.reply, message.headers) == (b"data", REPLY, None)
    assert tuple(fields) == FIELDS
    assert (inbox.buffered, inbox.buffered_bytes, inbox.taken) == (0, 0, 1)


def test_a_client_sends_commands_and_kicks_its_writer() -> None:
    assert list(inspect.signature(Client._send_command).parameters) == ["self", "cmd", "priority"]
    assert inspect.iscoroutinefunction(Client._flush_pending)
    assert "_conn" in vars(Subscription(Client()))


async def test_messages_are_taken_in_order_up_to_the_limit() -> None:
    inbox, _ = _inbox([b"1", b"22", b"333"])
    assert await inbox.wait(1.0)
    assert _payloads(inbox, 2) == [b"1", b"22"]
    assert inbox.buffered_bytes == 3
    assert _payloads(inbox, 2) == [b"333"]
    assert inbox.take(2) == ([], [])


async def test_what_the_server_says_is_told_from_what_it_delivers() -> None:
    inbox, subscription = _inbox([b"1"])
    status = Msg(Client(), headers={"Status": "100"})
    subscription._pending_queue.put_nowait(status)
    deliveries, statuses = inbox.take(10)
    assert [message.data for message, *_ in deliveries] == [b"1"]
    assert statuses == [status]


async def test_waiting_takes_nothing_away() -> None:
    inbox, subscription = _inbox([])
    assert not await inbox.wait(0.001)
    waiting = asyncio.create_task(inbox.wait(10.0))
    await asyncio.sleep(0)
    subscription._pending_queue.put_nowait(Msg(Client(), data=b"1", reply=REPLY))
    subscription._pending_queue.put_nowait(Msg(Client(), data=b"2", reply=REPLY))
    assert await waiting
    assert inbox.buffered == 2
    assert _payloads(inbox, 10) == [b"1", b"2"]


async def test_a_cancelled_wait_loses_nothing() -> None:
    inbox, subscription = _inbox([])
    waiting = asyncio.create_task(inbox.wait(10.0))
    await asyncio.sleep(0)
    subscription._pending_queue.put_nowait(Msg(Client(), data=b"1", reply=REPLY))
    waiting.cancel()
    await asyncio.wait({waiting})
    assert _payloads(inbox, 10) == [b"1"]


async def test_one_write_holds_many_messages() -> None:
    client = Client()
    client._setup_server_pool(["nats://127.0.0.1:4222"])
    client._flush_queue = asyncio.Queue()
    await publish_to_each(client, [f"s.{number}" for number in range(1500)], b"+ACK")
    assert len(client._pending) == 2
    lines = b"".join(client._pending)
    assert lines.startswith(b"PUB s.0 4\r\n+ACK\r\nPUB s.1 4\r\n+ACK\r\n")
    assert lines.count(b"PUB ") == 1500


@pytest.mark.parametrize(
    "reply",
    [
        f"$JS.ACK.IN.d.{TAIL}",
        f"$JS.ACK._.ACCHASH.IN.d.{TAIL}",
        f"$JS.ACK.hub.ACCHASH.IN.d.{TAIL}.r4nd0m",
        f"$JS.ACK.hub.ACCHASH.IN.d.{TAIL}.r4nd0m.more",
    ],
)
def test_every_form_says_the_same(reply: str) -> None:
    assert parse_ack_subject(reply) == FIELDS


@pytest.mark.parametrize("reply", ["", "_INBOX.a.b", "$JS.ACK.IN.d", "$JS.ACK.IN.d.x.1.2.3.4"])
def test_anything_else_is_refused(reply: str) -> None:
    with pytest.raises(ValueError):
        parse_ack_subject(reply)
