"""What is encoded by hand arrives as what nats-py encodes; fails when nats-py changes inside."""

from __future__ import annotations

import inspect

import pytest
from nats.aio.client import Client

from sinfer.nats.wire import encode_publish, header_blocks, send


@pytest.mark.parametrize("data", [b"", b"x", b"\r\nHPUB \x00\xff", b"y" * 200_000])
async def test_messages_arrive_as_the_client_itself_sends_them(
    nats_client: Client, unique: str, data: bytes
) -> None:
    headers = {"Nats-Msg-Id": "a/b c/%C3%BC/0", "Sinfer-Task": "ex:1"}
    arrived = await nats_client.subscribe(unique)
    await nats_client.publish(unique, data, reply="back.1", headers=headers)
    [block] = header_blocks(headers.items(), [b""])
    await send(nats_client, encode_publish(unique.encode(), b"back", [(block, data)] * 2))
    theirs, *ours = [await arrived.next_msg(timeout=5) for _ in range(3)]
    assert [message.reply for message in ours] == ["back.0", theirs.reply]
    for message in ours:
        assert message.subject == theirs.subject
        assert message.data == theirs.data == data
        assert message.headers == theirs.headers == headers


def test_publish_of_the_client_still_ends_in_the_parts_that_are_used_here() -> None:
    source = inspect.getsource(Client._send_publish)
    assert "await self._send_command(pub_cmd)" in source
    assert "await self._flush_pending()" in source
    assert inspect.iscoroutinefunction(Client._send_command)
    assert list(inspect.signature(Client._send_command).parameters) == ["self", "cmd", "priority"]
    assert {"out_msgs", "out_bytes"} <= set(Client().stats)
