"""Which functions a stored configuration may name as a model, so that nobody's text loads code.

Whoever may write to Redis can write a configuration with ``inference: {type: python, call: ...}``.
A worker calls a function that is named there alone only when the product's package brought it
already; all others must be named by a task of the product's own task manager as well.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from sinfer.errors import ConfigError
from sinfer.inference.python import PythonConfig, name_of
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig


def called_by(task: InferTaskConfig) -> str | None:
    """The function that a task names as its model, if it does."""
    return name_of(task.inference.call) if isinstance(task.inference, PythonConfig) else None


def is_brought_by(product: Product, call: str) -> bool:
    """Whether a function is defined in the product's package, and loaded."""
    module_name, _, name = call.partition(":")
    pipeline = product.pipeline.__module__
    package = pipeline.rpartition(".")[0] or pipeline
    if f"{module_name}.".startswith(f"{package}.") and module_name in sys.modules:
        found = vars(sys.modules[module_name]).get(name)
        return getattr(found, "__module__", None) == module_name
    return False


def check_call(call: str, product: Product, own: Iterable[InferTaskConfig], task_id: str) -> None:
    """Make sure that a task of the product's task manager names a function.

    Raises:
        ConfigError: none does.
    """
    if call not in map(called_by, own):
        raise ConfigError(
            f"task {task_id!r}: inference.call: {call!r} is named in Redis, but by no task that"
            f" product {product.name!r} lists, and is not in its package; so it is not loaded."
            " List a task that names it, or move the function into the product's package"
        )
