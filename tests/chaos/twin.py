"""A second product with a task of the same id, on the same subject, with the same sinks."""

from __future__ import annotations

from typing import ClassVar

from sinfer import Product
from tests.chaos.product import ChaosPipeline, FileTasks


class TwinPipeline(ChaosPipeline):
    """Does the same and signs its results."""

    by: ClassVar[str] = "chaos-twin"


product = Product("chaos-twin", tasks=FileTasks("chaos-twin"), pipeline=TwinPipeline)
