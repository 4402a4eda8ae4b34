"""The settings of one task: those that every task has, and your own."""

from __future__ import annotations

from sinfer import InferTaskConfig


class NewProductTask(InferTaskConfig):
    """Your own settings are fields: typed, checked, and shown in errors."""

    limit: float = 30.0
    """The pipeline reads it as ``self.task.limit``."""
