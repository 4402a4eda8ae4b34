"""Reply subjects of both forms, and what is none."""

from __future__ import annotations

import pytest

from sinfer.nats.ack_subject import parse_ack_subject

FIELDS = (2, 41, 97, 1_700_000_000_123_456_789, 5)
TAIL = ".".join(str(field) for field in FIELDS)


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
