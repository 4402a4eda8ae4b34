"""What ingestors could not make of their product's tasks, for `sinfer status` and the metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from sinfer.logging.masking import mask
from sinfer.store import keys
from sinfer.store.boards.ingestors import SILENT_AFTER_MS, Member

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_KEPT_S = 3600
_MOST_PROBLEMS = 100


class TaskReport(msgspec.Struct, frozen=True):
    """What is wrong with the tasks of a product, as one ingestor sees it.

    Attributes:
        outage: why the tasks cannot be listed; empty when they can.
        problems: what is wrong with single tasks, by id or place; the first of them.
        broken: how many have a problem.
        stopped: why partitions do not move, by the partition's full name; the first of them.
        lasting: what else troubles partitions for a while, by the partition's full name; under an
            empty name what troubles all of the ingestor.
        blocked: what holds the whole ingestor up, by the full name of the partition whose product
            code it is, or by an empty one.
    """

    outage: str = ""
    problems: dict[str, str] = {}
    broken: int = 0
    stopped: dict[str, str] = {}
    blocked: dict[str, str] = {}
    lasting: dict[str, list[str]] = {}

    @classmethod
    def of(
        cls,
        outage: str,
        problems: Mapping[str, str],
        stopped: Mapping[str, str],
        lasting: Mapping[str, list[str]],
    ) -> TaskReport:
        """A report, cut to what fits, without secrets."""
        told = list(lasting.items())[:_MOST_PROBLEMS]
        return cls(
            mask(outage),
            _first(problems),
            len(problems),
            _first(stopped),
            lasting={name: [mask(text) for text in texts] for name, texts in told},
        )


def _first(texts: Mapping[str, str]) -> dict[str, str]:
    return {name: mask(text) for name, text in list(texts.items())[:_MOST_PROBLEMS]}


_FINE = TaskReport()
_BLOCKED = "!blocked"


class TaskReporter:
    """Keeps an ingestor's report where others find it, as long as the ingestor lives.

    Args:
        store: the window store.
        product: name of the product.
        me: the ingestor.
        is_lifeline: whether it tells what holds the ingestor up, beside all else.
    """

    def __init__(
        self, store: Store, product: str, me: Member, *, is_lifeline: bool = False
    ) -> None:
        self._store = store
        self._key = keys.task_reports(product)
        self._me = f"{me}{_BLOCKED}" if is_lifeline else str(me)
        self._told = _FINE

    async def tell(self, report: TaskReport) -> None:
        """Write down the report, or that all is well.

        Raises:
            UnavailableError: Redis is unavailable.
            StoreFullError: Redis takes nothing more.
        """
        if report == _FINE == self._told:
            return
        pipeline = self._store.redis.pipeline(transaction=False)
        if report == _FINE:
            pipeline.hdel(self._key, self._me)
        else:
            pipeline.hset(self._key, self._me, msgspec.json.encode(report))
            pipeline.expire(self._key, _KEPT_S)
        await self._store.ask(pipeline.execute())
        self._told = report


async def task_report(store: Store, product: str, now_ms: int) -> TaskReport:
    """What the ingestors that are alive say of a product's tasks, put together.

    Args:
        store: the window store.
        product: name of the product.
        now_ms: the time of the store.
    """
    alive = await store.ask(
        store.redis.zrangebyscore(keys.ingestors(product), now_ms - SILENT_AFTER_MS, "+inf")
    )
    if not alive:
        return _FINE
    names = [*alive, *(name + _BLOCKED.encode() for name in alive)]
    found = await store.ask(store.redis.hmget(keys.task_reports(product), names))
    return _together(msgspec.json.decode(text, type=TaskReport) for text in found if text)


def _together(reports: Iterable[TaskReport]) -> TaskReport:
    outage, problems, broken = "", dict[str, str](), 0
    stopped, blocked = dict[str, str](), dict[str, str]()
    lasting = dict[str, list[str]]()
    for report in reports:
        outage = outage or report.outage
        problems |= report.problems
        broken = max(broken, report.broken, len(problems))
        stopped |= report.stopped
        blocked |= report.blocked
        for name, texts in report.lasting.items():
            known = lasting.setdefault(name, [])
            known += [text for text in texts if text not in known]
    return TaskReport(outage, problems, broken, stopped, blocked, lasting)
