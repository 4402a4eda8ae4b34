"""Only what sinfer itself says in a Celery message reaches a worker."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from sinfer.errors import InvalidItemError
from sinfer.tasks.broker_messages import as_ours
from sinfer.tasks.hint_message import read_hint
from sinfer.windows.ids import Scope
from tests.support.hostile_messages import harmless, message, refused, unreadable, wrong_hints

HINT = {"product": "p", "task": "t", "partition": "in.*", "windows": 3}


def arguments_of(found: dict[str, Any]) -> Any:
    positional, arguments, embedded = json.loads(b64decode(found["body"]))
    assert (positional, set(embedded.values())) == ([], {None})
    return arguments


def test_what_is_no_message_of_ours_is_refused(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for hostile in refused(canary):
        with pytest.raises(InvalidItemError) as error:
            as_ours(hostile, "sinfer.p")
        assert len(str(error.value)) <= 200
    for text in unreadable():
        try:
            read = json.loads(text)
        except (ValueError, RecursionError):
            continue
        with pytest.raises(InvalidItemError):
            as_ours(read, "sinfer.p")
    assert not canary.exists()


def test_of_a_hint_all_but_the_hint_is_written_again() -> None:
    for hostile in harmless(HINT):
        found = as_ours(hostile, "sinfer.p")
        assert arguments_of(found) == HINT
        assert found["headers"]["timelimit"] == [None, None]
        assert found["headers"]["eta"] is None
        assert found["properties"]["delivery_tag"] != hostile["properties"]["delivery_tag"]


def test_a_message_as_sinfer_sends_it_keeps_what_it_says() -> None:
    sent = message(HINT, headers={"expires": "2030-01-01T00:00:00+00:00", "task": "sinfer.tick"})
    found = as_ours(sent, "sinfer.tick")
    assert found["headers"]["task"] == "sinfer.tick"
    assert found["headers"]["expires"] == "2030-01-01T00:00:00+00:00"
    assert found["headers"]["id"] == sent["headers"]["id"]


def test_a_hint_of_wrong_types_or_sizes_is_told_and_nothing_else() -> None:
    for hostile in wrong_hints(HINT):
        fields = arguments_of(as_ours(hostile, "sinfer.p"))
        if fields.get("windows") == 10**300 or fields == HINT:
            continue
        with pytest.raises(InvalidItemError, match=r"\$|missing"):
            read_hint(fields)


def test_a_hint_of_a_later_version_is_read() -> None:
    assert read_hint({**HINT, "more": 1}) == (Scope("p", "t", "in.*"), 3)
