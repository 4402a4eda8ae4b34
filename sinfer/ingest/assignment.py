"""Which partitions are this ingestor's share, worked out again only when something changed."""

from __future__ import annotations

from collections.abc import Iterable

from sinfer.products.task import InferTaskConfig
from sinfer.store.boards.ingestors import Member, preferred
from sinfer.windows.ids import Scope


class Shares:
    """Shares out the partitions of a product among its ingestors.

    Args:
        product: name of the product.
        me: this ingestor.
    """

    def __init__(self, product: str, me: Member) -> None:
        self._product = product
        self._me = me
        self._tasks: dict[str, InferTaskConfig] | None = None
        self._members: frozenset[Member] = frozenset()
        self._all: dict[Scope, InferTaskConfig] = {}
        self._mine: dict[Scope, InferTaskConfig] = {}

    def of(
        self, tasks: dict[str, InferTaskConfig], members: Iterable[Member]
    ) -> dict[Scope, InferTaskConfig]:
        """The partitions that this ingestor should have, and their tasks."""
        members = frozenset(members)
        if tasks is self._tasks and members == self._members:
            return self._mine
        if tasks is not self._tasks:
            self._all = {
                Scope(self._product, task.id, subject): task
                for task in tasks.values()
                for subject in task.source.partition_subjects
            }
        self._tasks, self._members = tasks, members
        self._mine = {scope: task for scope, task in self._all.items() if self.is_mine(scope)}
        return self._mine

    def is_mine(self, scope: Scope) -> bool:
        """Whether a partition, of a task or of a removed one, is this ingestor's."""
        return preferred(scope, self._members) == self._me

    def orphans(self, stored: Iterable[Scope]) -> list[Scope]:
        """Stored partitions of this ingestor's share that no task has any more."""
        return [
            scope
            for scope in stored
            if scope.product == self._product and scope not in self._all and self.is_mine(scope)
        ]
