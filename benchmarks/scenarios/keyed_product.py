"""A product of 10,000 keys and windows of 5 items."""

from __future__ import annotations

import os
import random
from functools import cache

from benchmarks.scenarios.product import WARM, GatedTasks
from sinfer import Product
from sinfer.products.example.pipeline import ExamplePipeline, Reading

KEYS_VARIABLE = "BENCH_KEYS"
"""Environment variable that holds another number of keys, for a quick look."""

ITEMS = 5
"""Messages in a window."""
KEYS = 10_000

_WARM_KEYS = 200
_SEED = 5


def keys() -> int:
    """How many keys there are."""
    return int(os.environ.get(KEYS_VARIABLE, KEYS))


def messages() -> int:
    """A window of each key."""
    return ITEMS * keys()


@cache
def _shuffled() -> list[str]:
    """The key of each message: each one as often as a window has items, in random order."""
    made = [str(number // ITEMS) for number in range(messages())]
    random.Random(_SEED).shuffle(made)
    return made


class KeyedPipeline(ExamplePipeline):
    """The example with keys. Those of the warm-up come in turn, so that all its windows close."""

    def key(self, item: Reading) -> str:
        return str(item.id % _WARM_KEYS) if self.task.id == WARM else _shuffled()[item.id]


product = Product("keyed", tasks=GatedTasks(ITEMS), pipeline=KeyedPipeline)
