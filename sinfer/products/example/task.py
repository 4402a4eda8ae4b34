"""The settings of one task of the example product: those of every task, and a few of its own."""

from __future__ import annotations

from sinfer import InferTaskConfig


class ExampleTask(InferTaskConfig):
    """A product's own settings are fields like any other: typed, validated, shown in errors."""

    threshold: float = 0.5
    """An answer above this is marked as high."""
