"""Publishing many messages in one go.

``Client.publish`` costs 8 to 9 µs a message with headers, most of it for checking and encoding
them one by one. Encoding the commands here and handing them over together halves what the
whole sink costs.
"""

from __future__ import annotations

from collections.abc import Iterable

from nats.aio.client import Client

Headed = tuple[bytes, bytes]
"""A message: its block of headers and its payload."""


def header_blocks(headers: Iterable[tuple[str, str]], own: Iterable[bytes]) -> list[bytes]:
    """The blocks of headers of several messages.

    Args:
        headers: those that all of them have; names and values hold printable ASCII only.
        own: of each message the lines of its other headers, which come first.
    """
    lines = "".join([f"{name}:{value}\r\n" for name, value in headers]).encode("ascii")
    return [b"NATS/1.0\r\n%b%b\r\n" % (first, lines) for first in own]


def encode_publish(subject: bytes, inbox: bytes, messages: Iterable[Headed]) -> list[bytes]:
    """One HPUB command for each message, whose answer comes to ``inbox`` and its place."""
    return [
        b"HPUB %b %b.%d %d %d\r\n%b%b\r\n"
        % (subject, inbox, place, len(headers), len(headers) + len(data), headers, data)
        for place, (headers, data) in enumerate(messages)
    ]


async def send(client: Client, commands: list[bytes]) -> None:
    """Hand commands to the client's writer, which sends them soon.

    Whatever a reconnect finds unsent is sent then; what was on its way may be lost.
    """
    client.stats["out_msgs"] += len(commands)
    block = b"".join(commands)
    client.stats["out_bytes"] += len(block)
    await client._send_command(block)
    await client._flush_pending()
