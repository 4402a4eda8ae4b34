"""What Prometheus is told; read from Redis whenever it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sinfer.errors import SinferError
from sinfer.liveness.absences import listening
from sinfer.operations.audit import audit
from sinfer.operations.processes import add_processes
from sinfer.operations.products import known_scopes
from sinfer.operations.status import standing
from sinfer.products.registry import load_products
from sinfer.settings import settings
from sinfer.store.boards.task_reports import task_report
from sinfer.store.connection import Store


@dataclass(frozen=True, slots=True)
class Metric:
    """What Prometheus is told under one name. All of them are gauges.

    Attributes:
        name: as Prometheus has it.
        text: what it counts; the reference shows it.
        labels: what tells its values apart.
        field: of a partition's standing that it is taken from; empty where it is made otherwise.
    """

    name: str
    text: str
    labels: tuple[str, ...] = ("product", "task", "partition")
    field: str = ""


METRICS = {
    metric.name: metric
    for metric in (
        Metric("sinfer_store_up", "1 when the window store answers", ()),
        Metric("sinfer_messages_missing", "messages that are not accounted for; must be 0"),
        Metric(
            "sinfer_gone",
            "messages, counted as missing, that neither Redis nor the stream has and that nobody"
            " has written off; must be 0",
        ),
        Metric("sinfer_windows_stranded", "windows that nobody would process; must be 0"),
        Metric("sinfer_open", "windows that take messages", field="open"),
        Metric("sinfer_waiting", "closed windows that wait for a worker", field="waiting"),
        Metric("sinfer_leased", "windows that workers hold", field="leased"),
        Metric("sinfer_sealed", "closed windows that wait for other partitions", field="sealed"),
        Metric(
            "sinfer_aside",
            "windows that are set aside, since their messages are not all there; must be 0",
            field="aside",
        ),
        Metric(
            "sinfer_discarded",
            "messages that the stream removed before they were read; should be 0",
            field="discarded",
        ),
        Metric("sinfer_fetched", "messages taken from the stream", field="fetched"),
        Metric("sinfer_sunk", "messages that are done", field="sunk"),
        Metric("sinfer_dead", "messages that were given up", field="dead"),
        Metric("sinfer_filtered", "messages that preprocess filtered out", field="filtered"),
        Metric("sinfer_late", "messages dropped as late", field="late"),
        Metric("sinfer_letters", "dead letters in the store", field="letters"),
        Metric(
            "sinfer_results",
            "results that sinks have; a window that is processed again adds its own once more",
            field="results",
        ),
        Metric(
            "sinfer_fruitless",
            "messages, counted as sunk, of whose windows there was no result at all",
            field="fruitless",
        ),
        Metric(
            "sinfer_results_new", "results that sinks stored, as far as they tell",
            field="results_new",
        ),
        Metric(
            "sinfer_results_known",
            "results that sinks had already from an earlier write",
            field="results_known",
        ),
        Metric(
            "sinfer_results_collided",
            "results that a sink has under the key of something else; must be 0",
            field="results_collided",
        ),
        Metric(
            "sinfer_watermark_ahead_seconds",
            "how far the watermark is ahead of the clock, in seconds, by a wrong event time",
        ),
        Metric("sinfer_paused", "1 when the task is paused or drained", ("product", "task")),
        Metric("sinfer_ingestors", "ingestors of the product that are alive", ("product",)),
        Metric(
            "sinfer_workers", "processes of workers that take the product's windows", ("product",)
        ),
        Metric("sinfer_beats", "beats that run", ()),
        Metric(
            "sinfer_waits_seconds",
            "how long the first of the windows that wait could have been taken by a worker",
        ),
        Metric(
            "sinfer_tasks_unlisted",
            "1 while a task manager cannot answer, and the last known tasks stay in force",
            ("product",),
        ),
        Metric("sinfer_tasks_broken", "tasks that are reported and skipped", ("product",)),
        Metric(
            "sinfer_away",
            "1 while windows wait for a model or sink, which `what` names",
            ("product", "task", "partition", "what"),
        ),
    )
}  # fmt: skip
"""All there are. What is not listed here cannot be told."""


def _families() -> dict[str, GaugeMetricFamily]:
    return {
        metric.name: GaugeMetricFamily(metric.name, metric.text, labels=metric.labels)
        for metric in METRICS.values()
    }


class SinferCollector(Collector):
    """Reads the window store once for each scrape.

    Args:
        open_store: connects to it; it is closed after each scrape.
    """

    def __init__(self, open_store: Callable[[], Store] = Store.from_settings) -> None:
        self._open_store = open_store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = _families()
        try:
            asyncio.run(self._read(families))
        except SinferError:
            families = {"sinfer_store_up": _families()["sinfer_store_up"]}
        families["sinfer_store_up"].add_metric([], float(len(families) > 1))
        yield from families.values()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is read before the first scrape."""
        return iter(())

    @cached_property
    def _products(self) -> list[str]:
        """Products that can be found here; others are known by their windows."""
        return list(load_products(settings().products)[0])

    async def _read(self, families: Mapping[str, GaugeMetricFamily]) -> None:
        """Add what the store has to them."""
        store = self._open_store()
        try:
            scopes = await known_scopes(store, None, None)
            audited = await audit(store, scopes)
            tasks = await standing(store, scopes)
            present = await add_processes(store, tasks)
            now_ms = await store.now_ms()
            reports = {
                product: await task_report(store, product, now_ms)
                for product in {
                    *self._products,
                    *(s.product for s in scopes),
                }
            }
        finally:
            await store.aclose()
        for found in audited:
            families["sinfer_messages_missing"].add_metric(found.scope, found.missing)
            gone = sum(one.messages for one in found.gone)
            families["sinfer_gone"].add_metric(found.scope, gone)
            families["sinfer_windows_stranded"].add_metric(found.scope, len(found.stranded))
        fields = {metric.name: metric.field for metric in METRICS.values() if metric.field}
        ahead, away = families["sinfer_watermark_ahead_seconds"], families["sinfer_away"]
        waits = families["sinfer_waits_seconds"]
        for partition in (partition for task in tasks for partition in task.partitions):
            for name, field in fields.items():
                families[name].add_metric(partition.scope, getattr(partition, field))
            ahead.add_metric(partition.scope, partition.ahead_ms / 1000)
            waits.add_metric(partition.scope, partition.waits_ms / 1000)
            for outage in partition.away:
                away.add_metric([*partition.scope, outage.what], 1.0)
        for task in tasks:
            families["sinfer_paused"].add_metric([task.product, task.task], bool(task.paused))
        for product, number in {task.product: task.ingestors for task in tasks}.items():
            families["sinfer_ingestors"].add_metric([product], number)
        for product in {*self._products, *(task.product for task in tasks)}:
            families["sinfer_workers"].add_metric([product], len(listening(product, present)))
        families["sinfer_beats"].add_metric([], len(present.beats))
        for product, report in reports.items():
            families["sinfer_tasks_unlisted"].add_metric([product], bool(report.outage))
            families["sinfer_tasks_broken"].add_metric([product], report.broken)
