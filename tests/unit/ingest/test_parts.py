"""A batch that is stored part by part ends as one that is stored at once, wherever it is cut."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window
from sinfer.clock import ManualClock
from sinfer.ingest import entries
from sinfer.ingest.windower import Windower
from sinfer.local.memory import MemoryPartition
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.delivery_tracker import DeliveryTracker
from sinfer.windows.ids import Scope
from sinfer.windows.planner_types import make_planner
from tests.support.task_settings import task_of

NOW_MS = 1_700_000_000_000


def covered(state: Checkpoint) -> set[int]:
    """Every sequence that the state counts as read."""
    return {seq for first, last in state.read_through(10**6) for seq in range(first, last + 1)}


@given(
    st.integers(0, 20),
    st.lists(st.tuples(st.integers(22, 40), st.integers(0, 3)), max_size=4),
    st.data(),
)
def test_a_state_without_messages_counts_all_others(
    position: int, ranges: list[tuple[int, int]], data: st.DataObject
) -> None:
    progress = DeliveryTracker(position, [(first, first + more) for first, more in ranges])
    state = Checkpoint("s", progress.position, progress.ahead, "c")
    read = sorted(covered(state))
    unread = set(data.draw(st.lists(st.sampled_from(read)))) if read else set()
    before = state.without(unread)
    assert covered(before) == set(read) - unread
    restored = DeliveryTracker(before.position, before.ahead)
    assert (restored.position, restored.ahead) == (before.position, before.ahead)


def test_by_position_nothing_counts_ahead_of_the_first_message_that_is_missing() -> None:
    state = Checkpoint("s", 20)
    assert state.without([12, 15, 20]) == Checkpoint("s", 11)
    assert state.without([]) == state


def test_each_part_moves_the_position_to_its_last_message() -> None:
    messages = [Message(b"", stream_seq=seq) for seq in (3, 5, 8)]
    rest = Batch(messages, Checkpoint("s", 8))
    found = []
    while rest.messages:
        first, rest = rest.split(1)
        found.append(first.state.position)
    assert found == [4, 7, 8]


def test_the_ack_travels_with_the_last_part_alone() -> None:
    async def ack() -> None:
        """Nothing is asked for here."""

    messages = [Message(b"", stream_seq=seq) for seq in (3, 5, 8)]
    batch = Batch(messages, Checkpoint("s", 8), 7, 2, [(3, "r")], ack)
    first, rest = batch.split(2)
    assert (first.messages, first.ack, first.deliveries) == (messages[:2], None, [])
    assert rest == Batch(messages[2:], Checkpoint("s", 8), 7, 2, [(3, "r")], ack)


# --- windows ---


class Numbers(InferPipeline[InferTaskConfig, tuple[str, float]]):
    def preprocess(self, message: Message) -> tuple[str, float] | None:
        kind, key, time = message.data.decode().split()
        if kind == "bad":
            raise ValueError(kind)
        return None if kind == "skip" else (key, float(time))

    def key(self, item: tuple[str, float]) -> str:
        return item[0]

    def event_time(self, item: tuple[str, float]) -> float:
        return item[1]

    def build_request(self, window: Window[tuple[str, float]]) -> Any:
        return list(window)

    def build_results(self, window: Window[tuple[str, float]], response: Any) -> list[Result]:
        return []


class Closing(Numbers):
    def close_when(self, window: Any, item: tuple[str, float]) -> bool:
        if item[1] % 7 == 0:
            raise ValueError("seven")
        return item[1] % 5 == 0


def windows_of(
    messages: list[Message], spec: dict[str, Any], pipeline: type[Numbers], part: int
) -> tuple[list[Any], Any, Any]:
    """What a task makes of the messages, looking at so many at once."""
    task = task_of(window=spec)
    clock = ManualClock(NOW_MS)
    memory = MemoryPartition(Scope("p", "t", ">"), clock)
    made = pipeline(task)
    planner = make_planner(
        task.window,
        memory.scope.window_prefix,
        close_when=made.close_when if made.overrides("close_when") else None,
    )
    windower = Windower(made, planner, clock, memory.store)

    async def run() -> None:
        for first in range(0, len(messages), part):
            await windower.take(Batch(messages[first : first + part], Checkpoint("s", 0)))

    asyncio.run(run())
    closed = [
        (w.window.id, w.window.reason, w.window.record.count, w.window.record.first_seq)
        for w in memory._waiting.values()
    ]
    dead = [(letter.message.stream_seq, letter.error) for letter in memory.dead]
    return closed, dict(memory.counts), sorted(dead)


SPECS: list[dict[str, Any]] = [
    {"type": "tumbling", "size": "5s", "time": "event", "max_count": 4},
    {"type": "count", "count": 3},
    {"type": "sliding", "size": "6s", "slide": "2s", "time": "event"},
    {"type": "session", "gap": "3s", "time": "event"},
]


@given(
    st.sampled_from(SPECS),
    st.sampled_from([Numbers, Closing]),
    st.lists(
        st.tuples(
            st.sampled_from(["ok", "ok", "ok", "bad", "skip"]),
            st.sampled_from("ab"),
            st.integers(0, 40),
        ),
        max_size=30,
    ),
    st.integers(1, 7),
)
def test_windows_do_not_depend_on_where_a_batch_is_cut(
    spec: dict[str, Any],
    pipeline: type[Numbers],
    items: list[tuple[str, str, int]],
    part: int,
) -> None:
    if pipeline is Closing and spec["type"] in ("sliding", "session"):
        pipeline = Numbers
    messages = [
        Message(f"{kind} {key} {time}".encode(), "s", None, seq, NOW_MS * 1_000_000)
        for seq, (kind, key, time) in enumerate(items, 1)
    ]
    assert windows_of(messages, spec, pipeline, part) == windows_of(messages, spec, pipeline, 1000)


def test_a_slow_hook_is_called_in_slices_and_others_get_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 0.0

    class Slow(Numbers):
        def preprocess(self, message: Message) -> tuple[str, float] | None:
            nonlocal now_s
            now_s += 0.025
            return super().preprocess(message)

    class Time:
        @staticmethod
        def monotonic() -> float:
            return now_s

    task = task_of(window={"type": "count", "count": 3})
    monkeypatch.setattr(entries, "time", Time)
    messages = [Message(b"ok a 1", "s", None, seq, 1) for seq in range(1, 11)]
    assert entries.Preparer(Slow(task)).prepare_some(messages, NOW_MS).count == 2
    assert entries.Preparer(Slow(task)).prepare(messages, NOW_MS).count == 10


def test_a_slice_ends_when_it_holds_much_payload() -> None:
    task = task_of(window={"type": "count", "count": 3})
    data = b"ok a 1" + b" " * (7 * 1024 * 1024)
    messages = [Message(data, "s", None, seq, 1) for seq in range(1, 11)]
    assert entries.Preparer(Numbers(task)).prepare_some(messages, NOW_MS, 60.0).count == 5
