"""What Prometheus is told; read from Redis whenever it asks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sinfer.errors import SinferError
from sinfer.operations.auditing import audit
from sinfer.operations.products import known_scopes
from sinfer.operations.standing import standing
from sinfer.windows.store import Store

_GAUGES = {
    "open": "windows that take messages",
    "waiting": "closed windows that wait for a worker",
    "leased": "windows that workers hold",
    "sealed": "closed windows that wait for other partitions",
    "fetched": "messages taken from the stream",
    "sunk": "messages that are done",
    "dead": "messages that were given up",
    "filtered": "messages that preprocess filtered out",
    "late": "messages dropped as late",
    "letters": "dead letters in the store",
}


class SinferCollector(Collector):
    """Reads the window store once for each scrape.

    Args:
        url: the window store.
    """

    def __init__(self, url: str) -> None:
        self._url = url

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

    async def _read(self) -> list[GaugeMetricFamily]:
        store = Store(self._url)
        try:
            scopes = await known_scopes(store, None, None)
            audited = await audit(store, scopes)
            tasks = await standing(store, scopes)
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
        away = GaugeMetricFamily(
            "sinfer_away", "1 while windows wait for a model or sink", labels=[*labels, "what"]
        )
        for partition in (partition for task in tasks for partition in task.partitions):
            for outage in partition.away:
                away.add_metric([*partition.scope, outage.what], 1.0)
        return [*families, paused, ingestors, away]
