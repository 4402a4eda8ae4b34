"""Which messages a partition is about."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from sinfer.store.partition.incarnation import incarnation_of, is_of_stream, number_of_start
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter, unpack_dead_letter
from sinfer.windows.records import WindowRecord, unpack_record

CREATED = "2026-11-26T01:16:00.123456789Z"


def test_the_first_start_of_a_stream_has_a_short_name_that_never_changes() -> None:
    assert incarnation_of("S", CREATED) == incarnation_of("S", CREATED)
    assert re.fullmatch(r"[a-z2-7]{8}", incarnation_of("S", CREATED))


def test_streams_made_at_another_time_and_other_starts_differ() -> None:
    names = {
        incarnation_of(stream, created, start)
        for stream in ("S", "T")
        for created in (CREATED, CREATED.replace("789Z", "788Z"))
        for start in (0, 1, 11)
    }
    assert len(names) == 12


def test_it_tells_its_start_and_its_stream() -> None:
    name = incarnation_of("S", CREATED, 12)
    assert number_of_start(name) == 12
    assert number_of_start(incarnation_of("S", CREATED)) == 0
    assert is_of_stream(name, "S", CREATED)
    assert not is_of_stream(name, "S", CREATED[:-2] + "Z")


@pytest.mark.parametrize(
    ("stored", "unpack"),
    [
        (WindowRecord("k", None, None, 1, 2, incarnation="inc"), unpack_record),
        (
            DeadLetter(Message(b"x", "s", None, 1, 1), "sink", "no", 1, incarnation="inc"),
            unpack_dead_letter,
        ),
    ],
    ids=["window", "dead letter"],
)
def test_what_an_earlier_version_stored_has_none(
    stored: msgspec.Struct, unpack: Callable[[bytes], Any]
) -> None:
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(stored))
    earlier = fields[: type(stored).__struct_fields__.index("incarnation")]
    assert len(earlier) < len(fields)
    assert unpack(msgspec.msgpack.encode(fields)).incarnation == "inc"
    assert unpack(msgspec.msgpack.encode(earlier)).incarnation == ""
