"""Random histories: whatever batches, conflicts and restarts, windows are the reference's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.planned_partition import PlannedPartition
from tests.support.window_reference import SPECS, Item, Reference, window_spec

item_steps = st.tuples(
    st.sampled_from(["a", "b", "k/{1}"]),
    st.one_of(st.integers(0, 12), st.integers(-60, 60), st.sampled_from([200, -200])),
    st.integers(1, 3),
)
steps = st.lists(
    st.one_of(
        st.lists(item_steps, max_size=12).map(lambda items: ("batch", items)),
        st.integers(0, 40).map(lambda ms: ("clock", ms)),
        st.sampled_from([("tick", None), ("restart", None), ("plan twice", None), ("idle", None)]),
    ),
    max_size=25,
)


@pytest.mark.parametrize("name", SPECS)
@settings(max_examples=60, deadline=None)
@given(start=st.integers(-300, 300), steps=steps)
def test_windows_are_those_of_the_reference(
    name: str, start: int, steps: list[tuple[str, Any]]
) -> None:
    spec = window_spec(**SPECS[name])
    real, reference = PlannedPartition(spec), Reference(spec)
    event_time, now, seq = start, 1_000, 0
    for step, argument in steps:
        match step:
            case "batch":
                items = []
                for key, move, size in argument:
                    seq, event_time = seq + 1, event_time + move
                    items.append(Item(seq, key, event_time, size))
                real.take(items, now)
                reference.take(items, now)
            case "clock":
                now += argument
            case "tick":
                real.tick(now)
                reference.tick(now)
            case "restart":
                real.restart()
                reference.restart()
            case "plan twice":
                real.planner.plan([Item(9_999, "a", event_time + 500).entry], now)
                reference.notice(now)
            case "idle":
                real.close_all("idle")
                reference.close_all("idle")
        assert sorted(real.fired) == sorted(reference.fired)
        assert real.late == reference.late
    real.close_all("drain")
    reference.close_all("drain")
    real.tick(now + 10**6)
    reference.tick(now + 10**6)
    assert sorted(real.fired) == sorted(reference.fired)
    assert len({window.id for window in real.fired}) == len(real.fired)
    assert not real.open


events = st.lists(item_steps, max_size=60)


@pytest.mark.parametrize("name", [name for name, spec in SPECS.items() if "time" in spec])
@settings(max_examples=60, deadline=None)
@given(
    events=events,
    sizes=st.lists(st.integers(1, 15), min_size=1),
    restarts=st.sets(st.integers(0, 60)),
)
def test_a_replay_gives_the_same_windows_in_the_same_order(
    name: str,
    events: list[tuple[str, int, int]],
    sizes: list[int],
    restarts: set[int],
) -> None:
    spec = window_spec(**{k: v for k, v in SPECS[name].items() if k != "max_wait"})
    event_time, items = 0, []
    for seq, (key, move, size) in enumerate(events, 1):
        event_time += move
        items.append(Item(seq, key, event_time, size))
    live = PlannedPartition(spec)
    for item in items:
        live.take([item], now=item.seq)
    replay = PlannedPartition(spec)
    at, n = 0, 0
    while at < len(items):
        size = sizes[n % len(sizes)]
        replay.take(items[at : at + size], now=10**9)
        at, n = at + size, n + 1
        if at in restarts:
            replay.restart()
    assert replay.fired == live.fired
    assert replay.late == live.late
    assert replay.watermark == live.watermark
    assert replay.open.keys() == live.open.keys()
