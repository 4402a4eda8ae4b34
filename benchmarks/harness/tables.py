"""The report for people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.harness.latency import percentile
from benchmarks.harness.report import Report
from benchmarks.harness.targets import Target
from benchmarks.harness.timing import Timing
from benchmarks.scenarios.closing_commit import KEYS as CLOSING_KEYS
from benchmarks.scenarios.costs import FEW, MANY
from benchmarks.scenarios.keyed_product import ITEMS, keys
from benchmarks.scenarios.scenario import SCENARIOS, Scenario
from benchmarks.systems.catalogue import MODEL_MS, SLOW_MODEL
from benchmarks.systems.celery_batches import CELERY_BATCHES

_SERVERS = ("nats-server", "valkey-server", "model-server")
_CAPTION = (
    "/ bare is against the first line, the median of the rounds;\n"
    "CPU for each message in the best round: own processes + servers"
)


def show(report: Report, console: Console) -> None:
    """Print the report."""
    console.print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    timings = report.timings()
    for scenario in SCENARIOS:
        found = {
            name: timings[name]
            for name in report.compared.get(scenario.name, ())
            if name in timings
        }
        if found:
            console.print(f"\n{scenario.title}, messages a second:", markup=False)
            console.print(_systems(report, scenario, found))
            _show_latencies(found, console)
            _show_calls(scenario, found, console)
    _show_rest(report, console)
    for target in report.targets():
        console.print(_told(target))
    for text in report.left_out:
        console.print(f"· left out: {escape(text)}")
    for problem in report.problems:
        console.print(f"✘ {escape(problem)}")


def _systems(report: Report, scenario: Scenario, found: dict[str, list[Timing]]) -> Table:
    table = Table(box=SIMPLE, pad_edge=False, caption=_CAPTION)
    base = scenario.systems[0].name
    others = [base, *(name for name in (CELERY_BATCHES.name,) if name in found)]
    table.add_column("system", no_wrap=True)
    for title in (
        "messages", "best", "median", "worst", "with boot", "boot",
        *("/ bare", "/ batches")[: len(others)], "CPU each",
    ):  # fmt: skip
        table.add_column(title, justify="right", no_wrap=True)
    for name, timings in found.items():
        best = timings[0]
        servers = sum(us for part, us in best.cpu_us.items() if part in _SERVERS)
        own = sum(best.cpu_us.values()) - servers
        table.add_row(
            name,
            f"{best.messages:,}",
            *(f"{value:,.0f}" for value in _three([t.per_s for t in timings], max)),
            f"{best.per_s_with_boot:,.0f}",
            f"{best.boot_s:.1f} s",
            *(_ratio(report.ratio(name, other)) for other in others),
            f"{own:.0f} + {servers:.0f} µs",
        )
    return table


def _three(
    values: Sequence[float], best: Callable[[Sequence[float]], float]
) -> tuple[float, float, float]:
    """Best, median and worst."""
    return best(values), median(values), min(values) if best is max else max(values)


def _show_latencies(found: dict[str, list[Timing]], console: Console) -> None:
    """From a window's last message to its last result."""
    for name, timings in found.items():
        if not timings[0].latencies_ms:
            continue
        told = []
        for title, share in (("p50", 0.5), ("p99", 0.99)):
            values = [percentile(timing.latencies_ms, share) for timing in timings]
            told.append(title + " {:.1f}, {:.1f}, {:.1f} ms".format(*_three(values, min)))
        console.print(f"{name}: {'; '.join(told)} (best, median, worst round)")


def _show_calls(scenario: Scenario, found: dict[str, list[Timing]], console: Console) -> None:
    """How many calls the slow model had at once."""
    if scenario.systems != SLOW_MODEL:
        return
    for name, timings in found.items():
        most = _three([timing.in_flight for timing in timings], max)
        mean = _three([t.calls * MODEL_MS / 1000 / t.run_s for t in timings], max)
        console.print(
            "{}: at most {:.0f}, {:.0f}, {:.0f} calls at once".format(name, *most)
            + "; on average {:.1f}, {:.1f}, {:.1f} (best, median, worst round)".format(*mean)
        )


def _show_rest(report: Report, console: Console) -> None:
    if (keyed := report.keyed) is not None:
        windows = keyed.messages / ITEMS
        console.print(
            f"{keys():,} keys, windows of {ITEMS}: {windows / keyed.run_s:,.0f} windows/s,"
            f" {keyed.hints / windows:.3f} Celery messages for each"
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
    if (closing := report.closing) is not None:
        longest = _three(closing.longest_ms, min)
        total = _three(closing.total_ms, min)
        console.print(
            f"commit that closes {CLOSING_KEYS} windows (10:1 sliding), inside Redis:"
            " longest script {:.1f}, {:.1f}, {:.1f} ms;".format(*longest)
            + " all of it {:.1f}, {:.1f}, {:.1f} ms (best, median, worst)".format(*total)
        )
    if (million := report.million) is not None:
        console.print(
            f"{million.windows:,} open windows: taken over in {million.take_over_s:.1f} s, looked"
            f" at in {million.look_ms:.1f} ms, shown in {million.snapshot_ms:.1f} ms;"
            f" {million.redis_mb:,.0f} MB of Redis, {million.writer_mb:,.0f} MB of the writer"
        )
    if (many := report.many) is not None:
        console.print(
            f"{many.tasks:,} quiet tasks: all read {many.start_s:.1f} s after the start;"
            f" then {100 * many.idle_cpu:.1f} % of a core, {many.rss_mb:.0f} MB"
        )


def _told(target: Target) -> str:
    sign, word = ("✔", "") if target.is_met else ("✘", "missed, ")
    bound = "at most" if target.at_most else "at least"
    spread = ""
    if len(target.values) > 1:
        spread = f"; best {target.best:.2f}, worst {target.worst:.2f}"
    return f"{sign} {target.name}: {target.value:.2f} ({word}{bound} {target.limit:.4g}{spread})"


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
