"""The reply subject of a JetStream message, which carries its sequences, time and backlog.

Two forms exist, and servers may add tokens to the second one:

    $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>
    $JS.ACK.<domain>.<account>.<stream>.<consumer>.<delivered>. … .<pending>[.<token>…]
"""

from __future__ import annotations

_SHORT_FORM = 9


def parse_ack_subject(reply: str) -> tuple[int, int, int, int, int]:
    """What a reply subject says; a plain tuple, because this runs for each message.

    Returns:
        How often the message was delivered, this time included; its sequence in the stream; the
        number of this delivery among all of the consumer's; when the message was stored
        (nanoseconds since the epoch); how many messages the consumer had yet to deliver after it.

    Raises:
        ValueError: it is no reply subject of JetStream.
    """
    tokens = reply.split(".")
    if tokens[0] != "$JS":
        raise ValueError(f"{reply!r} is no reply subject of JetStream")
    if len(tokens) == _SHORT_FORM:
        _, _, _, _, delivered, stream_seq, consumer_seq, timestamp_ns, pending = tokens
    else:
        delivered, stream_seq, consumer_seq, timestamp_ns, pending = tokens[6:11]
    return int(delivered), int(stream_seq), int(consumer_seq), int(timestamp_ns), int(pending)
