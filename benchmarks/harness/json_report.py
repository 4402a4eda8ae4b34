"""The report as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from benchmarks.harness.latency import percentile
from benchmarks.harness.report import Report
from benchmarks.harness.targets import Target
from benchmarks.harness.timing import Timing
from benchmarks.scenarios.keyed_product import ITEMS, keys


def as_dict(report: Report) -> dict[str, Any]:
    """For ``--json``."""
    best = report.best()
    keyed = report.keyed
    return {
        "ok": not report.problems,
        "problems": report.problems,
        "left_out": report.left_out,
        "machine": report.machine,
        "systems": {name: _system(report, timing) for name, timing in best.items()},
        "scenarios": report.compared,
        "keyed": None if keyed is None else _keyed(keyed),
        "memory": None if report.memory is None else asdict(report.memory),
        "open_windows": None if report.costs is None else msgspec.to_builtins(report.costs),
        "closing_commit": None if report.closing is None else asdict(report.closing),
        "million_windows": None if report.million is None else msgspec.to_builtins(report.million),
        "many_tasks": None if report.many is None else asdict(report.many),
        "targets": [_target(target) for target in report.targets()],
    }


def _system(report: Report, best: Timing) -> dict[str, Any]:
    timings = report.timings()[best.system]
    return {
        "messages": best.messages,
        "messages_per_second": round(best.per_s),
        "messages_per_second_with_boot": round(best.per_s_with_boot),
        "boot_seconds": round(best.boot_s, 2),
        "all_rounds": [round(rate) for rate in report.rates(best.system)],
        "cpu_us_per_message": {part: round(us, 1) for part, us in best.cpu_us.items()},
        "most_calls_at_once": max(timing.in_flight for timing in timings),
    } | (
        {
            f"p{round(100 * share)}_ms": [
                round(percentile(timing.latencies_ms, share), 2) for timing in timings
            ]
            for share in (0.5, 0.99)
        }
        if best.latencies_ms
        else {}
    )


def _keyed(keyed: Timing) -> dict[str, Any]:
    windows = keyed.messages / ITEMS
    return {
        "keys": keys(),
        "items_per_window": ITEMS,
        "windows_per_second": round(windows / keyed.run_s),
        "messages_per_second": round(keyed.per_s),
        "celery_messages_per_window": keyed.hints / windows,
        "cpu_us_per_window": {name: round(us * ITEMS, 1) for name, us in keyed.cpu_us.items()},
    }


def _target(target: Target) -> dict[str, Any]:
    return {
        "name": target.name,
        "value": target.value,
        "best": target.best,
        "worst": target.worst,
        "limit": target.limit,
        "at_most": target.at_most,
        "met": target.is_met,
    }
