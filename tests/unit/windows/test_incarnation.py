"""Which messages a partition is about."""

from __future__ import annotations

import re

from sinfer.windows.incarnation import incarnation_of, is_of_stream, number_of_start

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
