"""Whether another task reads a task's durable consumer, or is about to."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from sinfer.errors import StoreError, UnavailableError
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.source.choice import durable_name, held_by_other
from sinfer.source.config import JetStreamSource
from sinfer.store.boards.consumers import ConsumerBoard, is_same_task
from sinfer.store.connection import Store
from sinfer.windows.ids import Scope


class Readers:
    """All tasks that may read a consumer.

    Args:
        store: the window store, which tells of those that do; None for none.
        tasks: those that are known, whether they run or not.
    """

    def __init__(
        self, store: Store | None = None, tasks: Sequence[tuple[Product, InferTaskConfig]] = ()
    ) -> None:
        self._store = store
        self._tasks = tasks

    async def check(self, scope: Scope, source: JetStreamSource, consumer: str) -> None:
        """Look for another task that reads a partition's durable.

        Args:
            scope: the partition.
            source: of its task.
            consumer: see ``consumer_id``; empty where the partition needs none for itself.

        Raises:
            SourceError: there is one.
        """
        durable = durable_name(source, scope.partition)
        if durable is None or not consumer:
            return
        if self._store is not None:
            with suppress(UnavailableError, StoreError):  # that is told by another check
                reader = await ConsumerBoard(self._store).reader(consumer)
                if reader is not None:
                    if not is_same_task(reader, scope):
                        raise held_by_other(source.stream, consumer, reader)
                    return
        for product, task in self._tasks:
            theirs = task.source
            if theirs.stream != source.stream or _place(theirs) != _place(source):
                continue
            for subject in theirs.partition_subjects:
                other = Scope(product.name, task.id, subject)
                if durable_name(theirs, subject) == durable and not is_same_task(other, scope):
                    raise held_by_other(source.stream, consumer, other, is_read=False)


def _place(source: JetStreamSource) -> tuple[set[str], str]:
    return set(source.place.servers), source.place.api_prefix
