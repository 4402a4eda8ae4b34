"""A task of soe as its table makes it."""

from __future__ import annotations

from typing import Any

from sinfer.products.soe.task import SoeTask
from sinfer.products.soe.tasks import DEFAULTS, tasks
from sinfer.products.soe.units import UNITS


def soe_task(**columns: Any) -> SoeTask:
    """The task of the first sample unit, with other values in some of its columns."""
    return SoeTask.model_validate({**DEFAULTS, **tasks.task({**UNITS[0], **columns})})
