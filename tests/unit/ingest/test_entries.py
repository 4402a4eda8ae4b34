"""A bad message becomes a dead letter with its reason and bytes; the others become entries."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from sinfer import InferPipeline, InferTaskConfig, InvalidItemError, Message, Result, Window
from sinfer.ingest.entries import Prepared, Preparer
from sinfer.products.pipeline import DEFAULT_KEY
from sinfer.types.message import pack_chunk
from sinfer.windows.dead_letters import pack_dead_letter, unpack_dead_letter
from tests.support.task_settings import task_of

NOW_MS = 1_700_000_000_000
HOUR_S = 3600


class Item(BaseModel):
    id: int
    key: Any = "k"
    time: Any = None


class Plain(InferPipeline[InferTaskConfig, Any]):
    def preprocess(self, message: Message) -> Any:
        item = Item.model_validate(json.loads(message.data))
        if item.id < 0:
            raise InvalidItemError(f"id is\nnegative: {item.key}")
        return item if item.id else None

    def build_request(self, window: Window[Any]) -> Any:
        return list(window)

    def build_results(self, window: Window[Any], response: Any) -> list[Result]:
        return []


class Keyed(Plain):
    def key(self, item: Any) -> str:
        if item.key == "raise":
            raise KeyError("no such device")
        return item.key  # type: ignore[no-any-return]


class Timed(Plain):
    def event_time(self, item: Any) -> float | None:
        return item.time  # type: ignore[no-any-return]


def prepare(
    *data: bytes | dict[str, Any],
    pipeline: type[InferPipeline[Any, Any]] = Plain,
    timestamp_ms: int = NOW_MS,
    window: dict[str, Any] | None = None,
    **limits: Any,
) -> Prepared:
    task = task_of(window=window or {"type": "count", "count": 10}, limits=limits)
    messages = [
        Message(
            text if isinstance(text, bytes) else json.dumps(text).encode(),
            stream_seq=seq,
            timestamp_ns=timestamp_ms * 1_000_000,
        )
        for seq, text in enumerate(data, 1)
    ]
    return Preparer(pipeline(task)).prepare(messages, NOW_MS)


EVENT_TIME = {"type": "tumbling", "size": "5s", "time": "event"}


def test_good_messages_keep_their_order_and_carry_their_items() -> None:
    prepared = prepare({"id": 3}, {"id": 1}, {"id": 2})
    assert [entry.message.stream_seq for entry in prepared.entries] == [1, 2, 3]
    assert [entry.item.id for entry in prepared.entries] == [3, 1, 2]
    assert {entry.key for entry in prepared.entries} == {DEFAULT_KEY}


def test_a_bad_message_among_good_ones_is_the_only_one_that_is_lost() -> None:
    prepared = prepare({"id": 1}, b"\xff{", {"id": 0}, {"id": 4})
    assert [entry.message.stream_seq for entry in prepared.entries] == [1, 4]
    assert [letter.message.stream_seq for letter in prepared.dead] == [2]
    assert prepared.filtered == 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "JSONDecodeError: Expecting value"),
        (b"not json", "JSONDecodeError: Expecting value"),
        (b'{"id": "\xff"}', "UnicodeDecodeError"),
        (b"[1, 2]", "valid dictionary"),
        (b'{"id": "x"}', "id: Input should be a valid integer"),
        (b"{}", "id: Field required"),
        (b'{"id": -1}', "id is negative: k"),
        (b'{"id": -1, "key": "\\ud800"}', "id is negative: \\ud800"),
        (b"[" * 100_000, "RecursionError"),
    ],
)
def test_the_dead_letter_has_the_reason_in_one_line_and_the_original_bytes(
    data: bytes, reason: str
) -> None:
    prepared = prepare(data)
    assert prepared.entries == []
    [letter] = prepared.dead
    assert letter.message.data == data
    assert letter.stage == "preprocess"
    assert letter.time_ms == NOW_MS
    assert reason in letter.error
    assert "\n" not in letter.error
    assert len(letter.error) <= 500
    assert unpack_dead_letter(pack_dead_letter(letter)) == letter


def test_a_message_that_is_too_large_is_not_even_looked_at() -> None:
    prepared = prepare({"id": 1, "key": "x" * 100}, {"id": 2}, max_message_bytes=60)
    assert [entry.item.id for entry in prepared.entries] == [2]
    assert "limits.max_message_bytes (60)" in prepared.dead[0].error


# --- keys ---


@pytest.mark.parametrize("key", ["k", "", "a/b", "{1}", "é", "\x00", "x" * 256])
def test_any_text_is_a_key(key: str) -> None:
    [entry] = prepare({"id": 1, "key": key}, pipeline=Keyed).entries
    assert entry.key == key


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("raise", "KeyError: 'no such device'"),
        (7, "key() returned int, not str"),
        (None, "key() returned NoneType, not str"),
        ("x" * 257, "limits.max_key_length (256)"),
        ("\ud800", "holds half of a surrogate pair"),
    ],
)
def test_a_bad_key_is_a_dead_letter(key: Any, reason: str) -> None:
    prepared = prepare({"id": 1, "key": key}, {"id": 2}, pipeline=Keyed)
    assert [entry.item.id for entry in prepared.entries] == [2]
    assert reason in prepared.dead[0].error


# --- event time ---


def test_in_processing_time_nobody_asks_for_the_event_time() -> None:
    [entry] = prepare({"id": 1, "time": "nonsense"}, pipeline=Timed).entries
    assert entry.time_ms == 0


def test_event_time_is_the_products_in_whole_milliseconds() -> None:
    [entry] = prepare({"id": 1, "time": 1.2345}, pipeline=Timed, window=EVENT_TIME).entries
    assert entry.time_ms == 1234


@pytest.mark.parametrize("pipeline", [Plain, Timed])
def test_event_time_is_that_of_the_stream_where_the_product_gives_none(
    pipeline: type[InferPipeline[Any, Any]],
) -> None:
    [entry] = prepare(
        {"id": 1}, pipeline=pipeline, window=EVENT_TIME, timestamp_ms=NOW_MS - 10
    ).entries
    assert entry.time_ms == NOW_MS - 10


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("soon", "event time is str"),
        (True, "event time is bool"),
        (float("nan"), "not finite"),
        (float("inf"), "not finite"),
        (NOW_MS, "is it in seconds?"),
        (NOW_MS / 1000 + 61, "window.max_future"),
        (NOW_MS / 1000 + HOUR_S, "window.max_future"),  # a wrong time zone, or summer time
    ],
)
def test_a_bad_event_time_is_a_dead_letter(time: Any, reason: str) -> None:
    prepared = prepare(
        {"id": 1, "time": time}, {"id": 2, "time": 5}, pipeline=Timed, window=EVENT_TIME
    )
    assert [entry.item.id for entry in prepared.entries] == [2]
    assert reason in prepared.dead[0].error


def test_whatever_becomes_an_entry_can_be_stored() -> None:
    prepared = prepare({"id": 1, "key": "\udfff"}, {"id": 2, "key": "ü"}, pipeline=Keyed)
    assert pack_chunk([entry.message for entry in prepared.entries])
    assert [entry.key.encode() for entry in prepared.entries] == ["ü".encode()]
