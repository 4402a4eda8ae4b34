"""Every private name of nats-py that sinfer uses: in ``client``, ``inbox`` and ``wire`` alone.

A test compares each with the version that it was seen in, and fails when nats-py changes it; others
show the faults of nats-py that ``client`` puts right, and fail when nats-py has mended them.
"""

from __future__ import annotations

from sinfer.types.private_name import PrivateName

_BULK = "nats-py hands out many messages at once, without a task and a future for each"
_WRITE = "nats-py publishes many messages with one write"
_TRANSPORT = "a connection may be given a transport, and lets go of one with which TLS failed"
_ODD = "whatever anybody may publish can be read"
_PLAIN = "credentials are never sent in clear where TLS is demanded"

_CLIENT = "nats.aio.client.Client"
_TCP = "nats.aio.transport.TcpTransport"
_SUBSCRIPTION = "nats.aio.subscription.Subscription"

PRIVATE_NAMES = [
    PrivateName(f"{_SUBSCRIPTION}._pending_queue", "messages are taken in bulk", _BULK),
    PrivateName(f"{_SUBSCRIPTION}._pending_size", "what is taken counts no longer", _BULK),
    PrivateName(f"{_CLIENT}._send_command", "encoded commands go out together", _WRITE),
    PrivateName(f"{_CLIENT}._flush_pending", "encoded commands go out soon", _WRITE),
    PrivateName(f"{_CLIENT}._connect_to_server", "takes sinfer's transport", _TRANSPORT),
    PrivateName(f"{_CLIENT}._transport", "is sinfer's own", _TRANSPORT),
    PrivateName(f"{_TCP}.connect_tls", "closes a connection with which TLS failed", _TRANSPORT),
    PrivateName(f"{_TCP}._io_reader", "is replaced by one over TLS", _TRANSPORT),
    PrivateName(f"{_TCP}._io_writer", "is replaced by one over TLS", _TRANSPORT),
    PrivateName(
        f"{_CLIENT}._read_loop",
        "an end of reading is an end of the connection",
        "the read loop reconnects, whatever ended it",
    ),
    PrivateName(
        f"{_CLIENT}._process_op_err",
        "begins to reconnect",
        "the read loop reconnects, whatever ended it",
    ),
    PrivateName(f"{_CLIENT}._process_headers", "reads any block of headers", _ODD),
    PrivateName(f"{_CLIENT}._build_message", "reads any subject", _ODD),
    PrivateName(f"{_CLIENT}._ps", "is sinfer's parser", _ODD),
    PrivateName("nats.protocol.parser.Parser.parse", "reads lines with any subject", _ODD),
    PrivateName("nats.protocol.parser.MSG_RE", "takes words for what servers do", _ODD),
    PrivateName("nats.protocol.parser.HMSG_RE", "takes words for what servers do", _ODD),
    PrivateName(f"{_CLIENT}._connect_command", "has the credentials, and is refused", _PLAIN),
    PrivateName(f"{_CLIENT}._current_server", "says whether the URL demands TLS", _PLAIN),
    PrivateName(
        f"{_CLIENT}._server_info",
        "says whether the server speaks TLS, and which its domain is",
        "nats-py tells all that a server says of itself",
    ),
]
