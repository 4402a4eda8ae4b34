"""What a worker process says of itself, so that it is known who listens for which product."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any

from celery import Celery

from sinfer.liveness.sign_of_life import SignOfLife
from sinfer.logging.masking import mask
from sinfer.store.boards.running_processes import SILENT_AFTER_MS, Presence
from sinfer.tasks.application import shown_broker
from sinfer.tasks.worker_memory import silent_s

_LONGEST_PROBLEM = 300

_products: list[str] = []
_problems: dict[str, str] = {}
_name = "a worker"
_signs: dict[int, SignOfLife] = {}


def note_products(products: Iterable[str], problems: Mapping[str, str]) -> None:
    """What the worker has loaded, and what it could not load."""
    _products[:] = sorted(products)
    _problems.clear()
    _problems.update({name: mask(text)[:_LONGEST_PROBLEM] for name, text in problems.items()})


def note_name(sender: Any = None, **_: object) -> None:
    """The worker begins, and has a name; its processes come later."""
    global _name
    _name = str(getattr(sender, "hostname", None) or _name)


def worker_name() -> str:
    """The name of the worker that this process belongs to, such as ``celery@host``."""
    return _name


def begin(app: Celery) -> None:
    """Give signs of life from this process."""
    if os.getpid() in _signs:
        return
    token = secrets.token_hex(4)
    queues = sorted(app.amqp.queues.consume_from)
    broker = shown_broker()

    def describe() -> Presence:
        return Presence(
            "worker", _name, os.getpid(), token, _products, _problems, queues, broker,
            _deaf(broker), version("sinfer"),
        )  # fmt: skip

    _signs[os.getpid()] = SignOfLife(describe)


def end(**_: object) -> None:
    """The process ends."""
    sign = _signs.pop(os.getpid(), None)
    if sign is not None:
        sign.close()


def _deaf(broker: str) -> str:
    """Why the worker takes no messages now; empty when it does."""
    since_s = silent_s()
    if since_s is None:
        return f"it is not connected to its broker {broker} yet"
    if since_s * 1000 < SILENT_AFTER_MS:
        return ""
    return (
        f"it has taken no messages for {since_s // 10 * 10:.0f} s: its broker {broker} does not"
        " answer, or its main process is stopped"
    )
