"""Messages as JetStream delivered them, and how a window keeps them: packed in chunks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

UNREADABLE = "Sinfer-Unreadable"
"""Header of a message that a stream could not give in full: what is wrong with it."""


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One message of a stream.

    Attributes:
        data: the payload, as published.
        subject: the subject it was published on.
        headers: NATS headers; of a repeated name the last value.
        stream_seq: its sequence number in the stream, from 1; 0 where there is no stream.
        timestamp_ns: when JetStream stored it, nanoseconds since the epoch.
    """

    data: bytes
    subject: str = ""
    headers: dict[str, str] | None = None
    stream_seq: int = 0
    timestamp_ns: int = 0

    @property
    def timestamp(self) -> float:
        """When JetStream stored it, seconds since the epoch."""
        return self.timestamp_ns / 1e9


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Message])


pack_chunk: Callable[[Sequence[Message]], bytes] = _encoder.encode
"""Pack messages for the store: a MessagePack array of arrays, about 40 bytes more each."""

unpack_chunk: Callable[[bytes], list[Message]] = _decoder.decode
"""The messages of a chunk, in the order they were packed."""
