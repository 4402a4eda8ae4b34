"""Following a product's tasks as they come, change and go."""

from __future__ import annotations

import asyncio
import logging
import time

from sinfer.errors import SinferError
from sinfer.products.product import Product, TaskList
from sinfer.products.task import InferTaskConfig

_log = logging.getLogger(__name__)

TIMEOUT_S = 30.0
"""A task manager that takes longer counts as away."""


class TaskFollower:
    """Asks a product's task manager as often as it wants, and keeps what is in force.

    A task that was valid once stays as it was while its settings are broken. While the manager
    cannot answer, all tasks do. Both are logged when they begin, and again when they change.

    Args:
        product: the product.

    Attributes:
        tasks: the tasks in force, by id.
        problems: what is wrong with tasks, by id or place; tasks among them may be in force as
            they were before.
        outage: why the manager cannot answer; empty when it can.
        is_known: whether the manager has answered at least once.
        is_complete: whether tasks that are neither in force nor broken are gone for good.
    """

    def __init__(self, product: Product) -> None:
        self._product = product
        self.tasks: dict[str, InferTaskConfig] = {}
        self.problems: dict[str, str] = {}
        self.is_known = False
        self.is_complete = False
        self.outage = ""
        self._asked = float("-inf")

    @property
    def wait_s(self) -> float:
        """Seconds until the manager is to be asked again."""
        return max(0.0, self._asked + self._product.tasks.refresh - time.monotonic())

    async def refresh(self) -> bool:
        """Ask the manager. Never raises; see the log.

        Returns:
            Whether the tasks in force changed, or which of the others are broken.
        """
        before = (self.tasks, self.problems.keys(), self.is_complete)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                listed = await self._product.list_tasks()
        except TimeoutError:
            self._note_outage(f"no answer within {TIMEOUT_S:g}s")
        except SinferError as error:
            self._note_outage(str(error))
        else:
            self._note_return()
            self._take(listed)
        self._asked = time.monotonic()
        return before != (self.tasks, self.problems.keys(), self.is_complete)

    def _take(self, listed: TaskList) -> None:
        tasks = dict(listed.tasks)
        for label, problem in listed.problems.items():
            known = self.tasks.get(label)
            if label not in tasks and known is not None:
                tasks[label] = known
            if self.problems.get(label) != problem:
                fate = "stays as it was" if label in tasks else "is skipped"
                _log.error("a task %s until this changes: %s", fate, problem)
        for label in self.problems.keys() - listed.problems.keys():
            fate = "in order now" if label in tasks else "not there any more"
            _log.info("product %s: %s is %s", self._product.name, label, fate)
        self.tasks, self.problems = tasks, listed.problems
        self.is_known, self.is_complete = True, listed.complete

    def _note_outage(self, text: str) -> None:
        if not self.outage:
            _log.error(
                "product %s: its tasks cannot be listed; %s: %s",
                self._product.name,
                "the last known stay in force" if self.is_known else "none are known yet",
                text,
            )
        self.outage = text

    def _note_return(self) -> None:
        if self.outage:
            _log.info("product %s: its tasks are listed again", self._product.name)
        self.outage = ""
