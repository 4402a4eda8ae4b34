"""What Prometheus is told; read from Redis whenever it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import cached_property

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sinfer.errors import SinferError
from sinfer.ingest.task_reports import task_report
from sinfer.missing import listening
from sinfer.operations.auditing import audit
from sinfer.operations.processes import add_processes
from sinfer.operations.products import known_scopes
from sinfer.operations.standing import standing
from sinfer.products.registry import load_products
from sinfer.settings import settings
from sinfer.windows.store import Store

_GAUGES = {
    "open": "windows that take messages",
    "waiting": "closed windows that wait for a worker",
    "leased": "windows that workers hold",
    "sealed": "closed windows that wait for other partitions",
    "aside": "windows that are set aside, since their messages are not all there; must be 0",
    "fetched": "messages taken from the stream",
    "sunk": "messages that are done",
    "dead": "messages that were given up",
    "filtered": "messages that preprocess filtered out",
    "late": "messages dropped as late",
    "letters": "dead letters in the store",
    "results": "results that sinks have; a window that is processed again adds its own once more",
    "fruitless": "messages, counted as sunk, of whose windows there was no result at all",
    "results_new": "results that sinks stored, as far as they tell",
    "results_known": "results that sinks had already from an earlier write",
    "results_collided": "results that a sink has under the key of something else; must be 0",
}


class SinferCollector(Collector):
    """Reads the window store once for each scrape.

    Args:
        open_store: connects to it; it is closed after each scrape.
    """

    def __init__(self, open_store: Callable[[], Store] = Store.from_settings) -> None:
        self._open_store = open_store

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            families = asyncio.run(self._read())
        except SinferError:
            families = []
        up = GaugeMetricFamily("sinfer_store_up", "1 when the window store answers")
        up.add_metric([], float(bool(families)))
        yield up
        yield from families

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing is read before the first scrape."""
        return iter(())

    @cached_property
    def _products(self) -> list[str]:
        """Products that can be found here; others are known by their windows."""
        return list(load_products(settings().products)[0])

    async def _read(self) -> list[GaugeMetricFamily]:
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
        labels = ["product", "task", "partition"]
        missing = GaugeMetricFamily(
            "sinfer_messages_missing",
            "messages that are not accounted for; must be 0",
            labels=labels,
        )
        stranded = GaugeMetricFamily(
            "sinfer_windows_stranded", "windows that nobody would process; must be 0", labels=labels
        )
        for found in audited:
            missing.add_metric(list(found.scope), found.account.missing)
            stranded.add_metric(list(found.scope), len(found.stranded))
        families = [missing, stranded]
        for name, text in _GAUGES.items():
            family = GaugeMetricFamily(f"sinfer_{name}", text, labels=labels)
            for task in tasks:
                for partition in task.partitions:
                    family.add_metric(list(partition.scope), getattr(partition, name))
            families.append(family)
        ahead = GaugeMetricFamily(
            "sinfer_watermark_ahead_seconds",
            "how far the watermark is ahead of the clock, by a wrong event time",
            labels=labels,
        )
        for partition in (partition for task in tasks for partition in task.partitions):
            ahead.add_metric(list(partition.scope), partition.ahead_ms / 1000)
        families.append(ahead)
        paused = GaugeMetricFamily(
            "sinfer_paused", "1 when the task is paused or drained", labels=labels[:2]
        )
        ingestors = GaugeMetricFamily(
            "sinfer_ingestors", "ingestors of the product that are alive", labels=labels[:1]
        )
        for task in tasks:
            paused.add_metric([task.product, task.task], float(bool(task.paused)))
        for product, number in {task.product: task.ingestors for task in tasks}.items():
            ingestors.add_metric([product], number)
        workers = GaugeMetricFamily(
            "sinfer_workers",
            "processes of workers that take the product's windows",
            labels=labels[:1],
        )
        for product in {*self._products, *(task.product for task in tasks)}:
            workers.add_metric([product], len(listening(product, present)))
        beats = GaugeMetricFamily("sinfer_beats", "beats that run")
        beats.add_metric([], len(present.beats))
        waits = GaugeMetricFamily(
            "sinfer_waits_seconds",
            "how long the first of the windows that wait could have been taken by a worker",
            labels=labels,
        )
        for partition in (partition for task in tasks for partition in task.partitions):
            waits.add_metric(list(partition.scope), partition.waits_ms / 1000)
        unlisted = GaugeMetricFamily(
            "sinfer_tasks_unlisted",
            "1 while a task manager cannot answer, and the last known tasks stay in force",
            labels=labels[:1],
        )
        broken = GaugeMetricFamily(
            "sinfer_tasks_broken", "tasks that are reported and skipped", labels=labels[:1]
        )
        for product, report in reports.items():
            unlisted.add_metric([product], float(bool(report.outage)))
            broken.add_metric([product], report.broken)
        away = GaugeMetricFamily(
            "sinfer_away", "1 while windows wait for a model or sink", labels=[*labels, "what"]
        )
        for partition in (partition for task in tasks for partition in task.partitions):
            for outage in partition.away:
                away.add_metric([*partition.scope, outage.what], 1.0)
        return [*families, paused, ingestors, workers, beats, waits, unlisted, broken, away]
