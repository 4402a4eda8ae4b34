"""The product newproduct: its tasks and its pipeline."""

from __future__ import annotations

from sinfer import Product

from .pipeline import NewProductPipeline
from .tasks import tasks

product = Product(
    "newproduct",
    tasks=tasks,
    pipeline=NewProductPipeline,
)
