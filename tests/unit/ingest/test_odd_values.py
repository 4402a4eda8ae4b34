"""Whatever hooks raise or return, it harms their own message alone, with the true reason."""

from __future__ import annotations

import asyncio
import enum
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window
from sinfer.ingest.entries import Prepared, Preparer
from sinfer.types.message import pack_chunk, unpack_chunk
from sinfer.windows.dead_letters import pack_dead_letter, unpack_dead_letter
from sinfer.windows.ids import time_window_id
from sinfer.windows.records import WindowRecord, pack_record, unpack_record
from tests.support.task_settings import task_of

NOW_MS = 1_700_000_000_000
NOW_S = NOW_MS // 1000


class Text(str):
    """A text that lies about itself, wherever it can."""

    def __str__(self) -> str:
        return "a lie"

    def __len__(self) -> int:
        return -1

    def encode(self, *args: Any) -> bytes:
        raise RuntimeError("not me")


class Colour(enum.StrEnum):
    RED = "red"


class Number(float):
    def __abs__(self) -> float:
        raise RuntimeError("not me")

    def __round__(self, digits: Any = None) -> Any:
        return "never"

    def __float__(self) -> float:
        raise RuntimeError("not me")


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("and worse")


class Unreachable(BaseException):
    pass


class Odd(InferPipeline[InferTaskConfig, Any]):
    """What a message is to do is in its subject."""

    answers: dict[str, Any]

    def _answer(self, hook: str, usual: Any) -> Any:
        answer = self.answers.get(hook, usual)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def preprocess(self, message: Message) -> Any:
        if message.subject == "good":
            return "good"
        return self._answer("preprocess", "odd")

    def key(self, item: Any) -> str:
        return "k" if item == "good" else self._answer("key", "k")

    def event_time(self, item: Any) -> Any:
        return NOW_S if isinstance(item, str) and item == "good" else self._answer("time", NOW_S)

    def build_request(self, window: Window[Any]) -> Any:
        return list(window)

    def build_results(self, window: Window[Any], response: Any) -> list[Result]:
        return []


def prepare(**answers: Any) -> Prepared:
    """Three messages: good ones around an odd one."""
    task = task_of(window={"type": "tumbling", "size": "5s", "time": "event"})
    pipeline = Odd(task)
    pipeline.answers = answers
    messages = [
        Message(b"\xff bytes", subject, {"h": "v"}, seq, NOW_MS * 1_000_000)
        for seq, subject in enumerate(("good", "odd", "good"), 1)
    ]
    return Preparer(pipeline).prepare(messages, NOW_MS)


def check(prepared: Prepared) -> str:
    """The good ones are there, all can be stored; returns why the odd one died, if it did."""
    assert prepared.count == 3
    assert [e.message.stream_seq for e in prepared.entries if e.message.subject == "good"] == [1, 3]
    for entry in prepared.entries:
        assert type(entry.key) is str
        assert type(entry.time_ms) is int
        record = WindowRecord(entry.key, entry.time_ms, entry.time_ms + 1, 1, 1)
        assert unpack_record(pack_record(record)) == record
        assert time_window_id("p/", entry.key, entry.time_ms).encode()
    assert unpack_chunk(pack_chunk([entry.message for entry in prepared.entries]))
    if not prepared.dead:
        return ""
    [letter] = prepared.dead
    assert len(prepared.entries) == 2
    assert letter.message.data == b"\xff bytes"
    assert letter.message.headers == {"h": "v"}
    assert unpack_dead_letter(pack_dead_letter(letter)) == letter
    return letter.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (asyncio.CancelledError(), "CancelledError"),
        (GeneratorExit(), "GeneratorExit"),
        (Unreachable("a panic of a Rust extension"), "Unreachable: a panic of a Rust extension"),
        (MemoryError(), "MemoryError"),
        (Speechless(), "Speechless"),
        (ValueError("\ud800 half\nof it"), "ValueError: \\ud800 half of it"),
        (BaseExceptionGroup("many", [SystemExit(1)]), "many"),
        (StopIteration(), "StopIteration"),
    ],
)
@pytest.mark.parametrize("hook", ["preprocess", "key", "time"])
def test_whatever_a_hook_raises_kills_its_message_alone_at_the_first_try(
    hook: str, error: BaseException, reason: str
) -> None:
    found = check(prepare(**{hook: error}))
    assert reason in found
    if hook != "preprocess":
        assert found.startswith("key: " if hook == "key" else "event_time: ")


numpy = pytest.importorskip("numpy")

KEYS: list[tuple[Any, str]] = [
    ("", ""),
    (Colour.RED, "red"),
    (numpy.str_("k9"), "k9"),
]


@pytest.mark.parametrize(("key", "text"), KEYS)
def test_text_of_any_class_is_a_key(key: Any, text: str) -> None:
    prepared = prepare(key=key)
    assert check(prepared) == ""
    assert prepared.entries[1].key == text


def test_a_text_that_lies_about_itself_is_taken_for_what_it_is() -> None:
    prepared = prepare(key=Text("truth"))
    assert check(prepared) == ""
    assert prepared.entries[1].key == "truth"


@pytest.mark.parametrize(
    "key",
    [7, None, b"k", 1.5, ["k"], ("k",), numpy.int64(7), numpy.bytes_(b"k"), object(), Colour],
)
def test_what_is_no_text_is_no_key(key: Any) -> None:
    assert check(prepare(key=key)) == f"key() returned {type(key).__name__}, not str"


def test_long_keys_and_half_surrogates_are_refused_whatever_they_say_of_themselves() -> None:
    assert "max_key_length" in check(prepare(key="x" * 10**6))
    assert "max_key_length" in check(prepare(key=Text("x" * 257)))
    assert "surrogate" in check(prepare(key=numpy.str_("\ud800")))


TIMES: list[Any] = [
    numpy.float64(NOW_S + 0.5),
    numpy.float32(1024.5),
    numpy.int64(NOW_S),
    numpy.uint8(7),
    Decimal("12.345678901234567890"),
    Fraction(1, 3),
    Number(NOW_S),
    datetime(2023, 1, 1, tzinfo=UTC),
    datetime(1, 1, 1, tzinfo=UTC),
    -5,
]


@pytest.mark.parametrize("time", TIMES)
def test_numbers_of_any_class_and_moments_are_event_times(time: Any) -> None:
    prepared = prepare(time=time)
    assert check(prepared) == ""
    plain = time.timestamp() if isinstance(time, datetime) else time
    seconds = float.__float__(plain) if isinstance(plain, float) else float(plain)
    assert prepared.entries[1].time_ms == round(seconds * 1e6) // 1000


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        (True, "is bool"),
        (numpy.bool_(True), "is bool"),
        (10**400, "out of range"),
        (-(10**400), "out of range"),
        (float("inf"), "not finite"),
        (float("-inf"), "not finite"),
        (numpy.float32("nan"), "not finite"),
        (Decimal("NaN"), "not finite"),
        (Decimal("sNaN"), "not finite"),
        (Decimal("1e999999"), "not finite"),
        (Fraction(10**400), "not finite"),
        (datetime(2023, 1, 1), "without a time zone"),
        (numpy.datetime64("2023-01-01"), "not a number"),
        (numpy.array([1.0, 2.0]), "not a number"),
        (timedelta(seconds=5), "not a number"),
        ("1700000000", "is str"),
        (1j, "not a number"),
    ],
)
def test_other_event_times_are_refused_for_what_they_are(time: Any, reason: str) -> None:
    assert reason in check(prepare(time=time))


async def _later() -> str:
    return "later"


def test_a_coroutine_is_no_item() -> None:
    assert "make it a plain function" in check(prepare(preprocess=_later()))


odd = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
        st.decimals(), st.fractions(), st.datetimes(), st.timedeltas(), st.complex_numbers(),
        st.characters(categories=["Cs"]), st.sampled_from([SystemExit(), object()]),
        st.floats(width=32).map(numpy.float32), st.text().map(numpy.str_), st.text().map(Text),
        st.floats().map(Number), st.integers(0, 2**64 - 1).map(numpy.uint64),
        st.datetimes(timezones=st.just(UTC)),
    ),
    lambda values: st.lists(values, max_size=2) | st.dictionaries(st.text(), values, max_size=2),
    max_leaves=3,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["preprocess", "key", "time"]), odd))
def test_no_value_of_any_kind_harms_the_messages_beside_it(answers: dict[str, Any]) -> None:
    check(prepare(**answers))


def test_a_hook_that_changes_the_headers_does_not_change_what_is_stored() -> None:
    class Vandal(Odd):
        def preprocess(self, message: Message) -> Any:
            assert message.headers is not None
            message.headers["h"] = object()  # type: ignore[assignment]
            return "good"

    task = task_of(window={"type": "count", "count": 5})
    message = Message(b"", "good", {"h": "v"}, 1, 1)
    [entry] = Preparer(Vandal(task)).prepare([message], NOW_MS).entries
    assert entry.message.headers == {"h": "v"}
