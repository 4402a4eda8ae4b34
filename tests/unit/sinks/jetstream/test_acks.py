"""What the answers to a group of messages mean."""

from __future__ import annotations

import pytest

from sinfer.errors import SinkError, SinkUnavailableError
from sinfer.sinks.jetstream.publish_acks import AckedGroup

COMMANDS = [b"a", b"b", b"c"]


def refusal(code: int, error: int = 1) -> bytes:
    return b'{"error":{"code":%d,"err_code":%d,"description":"no"},"stream":"S","seq":0}' % (
        code,
        error,
    )


async def test_a_group_is_done_when_every_message_is_acknowledged() -> None:
    group = AckedGroup(COMMANDS, "out", None)
    group.take(2, b'{"stream":"S", "seq":1}', None)
    group.take(0, b'{"stream":"S", "seq":2}', None)
    assert not group.done.done()
    assert group.unacked == [b"b"]
    group.take(1, b'{"stream":"S", "seq":3}', None)
    assert group.done.done()
    assert group.unacked == []
    await group.done


async def test_an_ack_that_comes_twice_counts_once() -> None:
    group = AckedGroup(COMMANDS, "out", None)
    for _ in range(3):
        group.take(0, b'{"stream":"S", "seq":1}', None)
    assert group.unacked == [b"b", b"c"]
    assert not group.done.done()


async def test_a_copy_that_the_stream_dropped_is_stored() -> None:
    group = AckedGroup([b"a"], "out", "S")
    group.take(0, b'{"stream":"S","seq":2,"duplicate": true}', None)
    await group.done
    assert (group.there, group.stream) == ({0: 2}, "S")


async def test_a_message_that_is_new_is_no_copy() -> None:
    group = AckedGroup([b"a", b"b"], "out", "S")
    group.take(0, b'{"stream":"S","seq":2,"duplicate":false}', None)
    group.take(1, b'{"stream":"S","seq":3,"domain":"duplicate"}', None)
    await group.done
    assert group.there == {}


async def test_an_ack_is_understood_however_it_is_written() -> None:
    group = AckedGroup([b"a", b"b"], "out", "S")
    group.take(0, b'{ "seq": 1, "stream": "S" }', None)
    group.take(1, b'{"domain":"hub","stream":"S","seq":2}', None)
    await group.done


async def test_a_stream_named_error_is_no_error() -> None:
    group = AckedGroup([b"a"], "out", None)
    group.take(0, b'{"stream":"error","seq":1}', None)
    await group.done


@pytest.mark.parametrize(
    ("answer", "status", "kind", "text"),
    [
        (b"", "503", SinkUnavailableError, "no stream covers subject 'out'"),
        (refusal(400, 10002), None, SinkUnavailableError, "error 10002"),
        (refusal(409), None, SinkUnavailableError, "code 409"),
        (refusal(429), None, SinkUnavailableError, "code 429"),
        (refusal(500), None, SinkUnavailableError, "code 500"),
        (refusal(503, 10077), None, SinkUnavailableError, "error 10077"),
        (b'{"stream":"T","seq":1}', None, SinkUnavailableError, "by stream 'T', not by 'S'"),
        (b"{}", None, SinkUnavailableError, "not by 'S'"),
        (b"hello", None, SinkUnavailableError, "somebody other than JetStream"),
        (b"[]", None, SinkUnavailableError, "somebody other than JetStream"),
        (b"", None, SinkUnavailableError, "somebody other than JetStream"),
    ],
)
async def test_what_may_pass_ends_the_group_with_its_reason(
    answer: bytes, status: str | None, kind: type[SinkError], text: str
) -> None:
    group = AckedGroup(COMMANDS, "out", "S")
    group.take(1, answer, status)
    with pytest.raises(kind, match=text):
        await group.done
    group.take(0, b'{"stream":"S","seq":1}', None)
    assert group.unacked == []


async def test_a_message_refused_for_good_is_told_when_all_others_are_stored() -> None:
    group = AckedGroup(COMMANDS, "out", "S")
    group.take(1, refusal(400, 10054), None)
    group.take(0, b'{"stream":"S","seq":1}', None)
    assert group.unacked == [b"c"]
    group.take(2, refusal(404), None)
    await group.done
    assert group.refused.keys() == {1, 2}
    assert "error 10054" in group.refused[1]
    assert "code 404" in group.refused[2]


async def test_what_is_said_to_all_messages_tells_of_the_stream_and_refuses_none() -> None:
    """But for what can only tell of the messages."""
    for number, kind in ((1, SinkUnavailableError), (10054, None), (10097, None)):
        group = AckedGroup(COMMANDS, "out", "S")
        for place in range(3):
            group.take(place, refusal(403, number), None)
        if kind is None:
            await group.done
            assert group.refused.keys() == {0, 1, 2}
        else:
            with pytest.raises(kind, match=f"code 403, error {number}"):
                await group.done
