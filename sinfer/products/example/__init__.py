"""A whole product, to run, to read and to copy. It is found because its package is here."""

from __future__ import annotations

from sinfer import Product
from sinfer.products.example.pipeline import ExamplePipeline
from sinfer.products.example.tasks import tasks

product = Product("example", tasks=tasks, pipeline=ExamplePipeline)
