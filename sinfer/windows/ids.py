"""Names that never collide: scopes (product, task, partition) and deterministic window ids.

Components are escaped and joined by ``/``, so that no two differ in meaning and agree in text.
"""

from __future__ import annotations

import shlex
from functools import lru_cache
from typing import NamedTuple

from sinfer.escaping import escape as escape
from sinfer.escaping import unescape as unescape


class Scope(NamedTuple):
    """One partition of one task: everything that has a writer of its own."""

    product: str
    task: str
    partition: str

    def __str__(self) -> str:
        return _text_of(self)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """The inverse of ``str``.

        Raises:
            ValueError: the text has not three components.
        """
        product, task, partition = (unescape(part) for part in text.split("/"))
        return cls(product, task, partition)

    @property
    def window_prefix(self) -> str:
        """How the ids of its windows begin."""
        return self.prefix_of(0)

    def prefix_of(self, layout: int) -> str:
        """How the ids of its windows begin after they were cut in another way that many times.

        The number tells windows apart that begin at the same time; ``#`` is in no component.
        """
        mark = f"#{layout}" if layout else ""
        return f"{escape(self.task)}/{escape(self.partition)}{mark}/"


@lru_cache(maxsize=4096)
def _text_of(scope: Scope) -> str:
    return "/".join(escape(part) for part in scope)


def time_window_id(prefix: str, key: str, start_ms: int, first_seq: int | None = None) -> str:
    """Base id of a time window: ``task/partition/key/start``.

    Windows that can close early come in parts, told apart by the stream sequence of their first
    message: ``task/partition/key/start@first_seq``.
    """
    part = "" if first_seq is None else f"@{first_seq}"
    return f"{prefix}{escape(key)}/{start_ms}{part}"


def count_window_id(prefix: str, key: str, first_seq: int) -> str:
    """Id of a count or session window: ``task/partition/key/first_seq``."""
    return f"{prefix}{escape(key)}/{first_seq}"


def reset_command(scope: Scope) -> str:
    """The command that starts a partition over, for texts that name the remedy."""
    words = ("sinfer", "reset", "--product", scope.product, "--task", scope.task)
    return shlex.join((*words, "--partition", scope.partition))


def write_off_command(scope: Scope) -> str:
    """The command that writes off what is gone of a task, likewise."""
    return shlex.join(("sinfer", "write-off", "--product", scope.product, "--task", scope.task))
