"""The benchmarks judge what they measured: latencies, ratios of a round, and targets."""

from __future__ import annotations

import math

import pytest

from benchmarks.harness.latency import latencies_ms, percentile
from benchmarks.harness.targets import Target, targets_of
from benchmarks.harness.timing import Timing

_MS = 1_000_000


def _timing(system: str, rate: float, cpu_us: float = 0.0) -> Timing:
    cpu = {"bare" if system == "bare" else "worker": cpu_us, "beat": 500.0, "nats-server": 500.0}
    return Timing(system, 1_000, boot_s=1.0, run_s=1_000 / rate, cpu_us=cpu)


def test_a_windows_latency_is_from_its_last_message_to_its_last_result() -> None:
    published_ns = [number * _MS for number in range(6)]
    results_ns = {0: 9 * _MS, 1: 4 * _MS, 2: 5 * _MS, 3: 7 * _MS, 4: 10 * _MS, 5: 8 * _MS}
    assert latencies_ms(published_ns, results_ns, items=2, skip=0) == [8.0, 4.0, 5.0]
    assert latencies_ms(published_ns, results_ns, items=2, skip=4) == [5.0]


def test_a_window_that_never_filled_has_no_latency() -> None:
    assert latencies_ms([0, 0, 0], {0: 1, 1: 1, 2: 1}, items=2, skip=0) == [1e-6]


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (50.0, 99.0)
    assert percentile([7.0], 0.99) == 7.0
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(
    ("at_most", "limit", "is_met", "best", "worst"),
    [
        (False, 2.0, True, 9.0, 1.0),
        (False, 2.1, False, 9.0, 1.0),
        (True, 2.0, True, 1.0, 9.0),
        (True, 1.9, False, 1.0, 9.0),
    ],
)
def test_the_median_decides_whether_a_target_is_reached(
    at_most: bool, limit: float, is_met: bool, best: float, worst: float
) -> None:
    target = Target("speed", [9.0, 1.0, 2.0], limit, at_most)
    assert (target.value, target.best, target.worst) == (2.0, best, worst)
    assert target.is_met == is_met


def test_a_system_is_compared_with_another_one_of_the_same_round() -> None:
    rounds = [
        {"bare": _timing("bare", 100, 40), "sinfer-durable": _timing("sinfer-durable", 50, 60)},
        {"bare": _timing("bare", 1_000, 40), "sinfer-durable": _timing("sinfer-durable", 900, 44)},
        {"sinfer-durable": _timing("sinfer-durable", 5_000, 44)},
    ]
    found = {target.name: target for target in targets_of(rounds)}
    assert set(found) == {"sinfer-durable / bare", "CPU of sinfer-durable / bare"}
    assert found["sinfer-durable / bare"].values == pytest.approx([0.5, 0.9])
    # Servers and beat are left out.
    assert found["CPU of sinfer-durable / bare"].values == pytest.approx([1.5, 1.1])


def test_sharing_is_compared_with_the_old_code_where_that_ran() -> None:
    rates = {"sinfer-keyed-shared": 1_000.0, "sinfer-keyed": 500.0, "sinfer-keyed-old": 50.0}
    old = {name: _timing(name, rate) for name, rate in rates.items()}
    assert [target.name for target in targets_of([old])] == [
        "sinfer-keyed-shared / sinfer-keyed-old",
        "Celery messages for a keyed window",
    ]
    new = {name: timing for name, timing in old.items() if name != "sinfer-keyed-old"}
    [target, _] = targets_of([new])
    assert (target.name, target.value) == ("sinfer-keyed-shared / sinfer-keyed", 2.0)
