"""The report for people, and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.harness.report import Report
from benchmarks.scenarios.costs import FEW, MANY
from benchmarks.scenarios.keyed_product import ITEMS, KEYS
from benchmarks.systems.catalogue import BARE, CELERY_BATCHES

_SERVERS = ("nats-server", "valkey-server", "model-server")


def as_dict(report: Report) -> dict[str, Any]:
    """For ``--json``."""
    return {
        "ok": not report.problems,
        "problems": report.problems,
        "machine": report.machine,
        "systems": {
            name: {
                "messages": best.messages,
                "messages_per_second": round(best.per_s),
                "messages_per_second_with_boot": round(best.per_s_with_boot),
                "boot_seconds": round(best.boot_s, 2),
                "all_rounds": [round(rate) for rate in report.rates(name)],
                "cpu_us_per_message": {part: round(us, 1) for part, us in best.cpu_us.items()},
            }
            for name, best in report.best().items()
        },
        "keyed": None if report.keyed is None else _keyed(report),
        "memory": None if report.memory is None else asdict(report.memory),
        "open_windows": None if report.costs is None else msgspec.to_builtins(report.costs),
        "many_tasks": None if report.many is None else asdict(report.many),
        "targets": [asdict(target) | {"met": target.is_met} for target in report.targets()],
    }


def _keyed(report: Report) -> dict[str, Any]:
    assert report.keyed is not None
    windows = report.keyed.messages / ITEMS
    return {
        "keys": KEYS,
        "items_per_window": ITEMS,
        "windows_per_second": round(windows / report.keyed.run_s),
        "messages_per_second": round(report.keyed.per_s),
        "celery_messages_per_window": report.keyed.hints / windows,
        "cpu_us_per_window": {n: round(us * ITEMS, 1) for n, us in report.keyed.cpu_us.items()},
    }


def show(report: Report, console: Console) -> None:
    """For people."""
    console.print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    if report.timings:
        console.print(_systems(report))
    if report.keyed is not None:
        keyed = _keyed(report)
        console.print(
            f"{KEYS:,} keys, windows of {ITEMS}: {keyed['windows_per_second']:,} windows/s,"
            f" {keyed['celery_messages_per_window']:.3f} Celery messages for each"
        )
    if (memory := report.memory) is not None:
        console.print(
            f"{memory.messages:,} buffered messages of {memory.message_bytes:.0f} bytes:"
            f" {memory.redis_bytes:.0f} bytes of Redis for each"
        )
    if (costs := report.costs) is not None:
        console.print(
            f"commit of 500 messages: {costs.commit_few_ms:.1f} ms with {FEW:,} open windows,"
            f" {costs.commit_many_ms:.1f} ms with {MANY:,};"
            f" tick with {MANY:,}: {costs.tick_ms:.1f} ms, {costs.tick_due_ms:.1f} ms with 500 due"
        )
    if (many := report.many) is not None:
        console.print(
            f"{many.tasks:,} quiet tasks: all read {many.start_s:.1f} s after the start;"
            f" then {100 * many.idle_cpu:.1f} % of a core, {many.rss_mb:.0f} MB"
        )
    for target in report.targets():
        sign, most = ("✔", "at most") if target.is_met else ("✘", "at most")
        bound = most if target.at_most else "at least"
        console.print(f"{sign} {target.name}: {target.value:.2f} ({bound} {target.limit:.4g})")
    for problem in report.problems:
        console.print(f"✘ {escape(problem)}")


def _systems(report: Report) -> Table:
    table = Table(
        box=SIMPLE,
        pad_edge=False,
        caption="best round of each; CPU for each message: own processes + servers",
    )
    table.add_column("system", no_wrap=True)
    for title in (
        "messages", "per s", "with boot", "boot", "/ bare", "/ batches", "CPU each",
    ):  # fmt: skip
        table.add_column(title, justify="right", no_wrap=True)
    for name, best in report.best().items():
        servers = sum(us for part, us in best.cpu_us.items() if part in _SERVERS)
        own = sum(best.cpu_us.values()) - servers
        table.add_row(
            name,
            f"{best.messages:,}",
            f"{best.per_s:,.0f}",
            f"{best.per_s_with_boot:,.0f}",
            f"{best.boot_s:.1f} s",
            *(_ratio(report.ratio(name, base)) for base in (BARE.name, CELERY_BATCHES.name)),
            f"{own:.0f} + {servers:.0f} µs",
        )
    return table


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
