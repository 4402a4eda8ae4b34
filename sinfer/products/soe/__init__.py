"""Simulation optimisation: the best set-points for the units of a plant, every ten seconds."""

from __future__ import annotations

from sinfer import Product
from sinfer.products.soe.pipeline import SoePipeline
from sinfer.products.soe.tasks import tasks

product = Product("soe", tasks=tasks, pipeline=SoePipeline)
