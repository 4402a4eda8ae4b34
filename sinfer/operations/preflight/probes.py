"""Asking models and sinks whether they would work: each once, all at once, and none for long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sinfer.config.model import ConfigModel
from sinfer.types.check import Checked

TIMEOUT = timedelta(seconds=5)
"""Longest wait for one answer."""

_AT_ONCE = 32
"""Questions to one server under way at once."""

_SILENT = 3
"""A server that gave so many no answer, and none to any, is not asked further."""


@dataclass(slots=True)
class _Server:
    """What is known of a server.

    Attributes:
        room: for questions under way.
        has_answered: whether it has answered any.
        silent: what came of those that it did not answer.
    """

    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    has_answered: bool = False
    silent: list[Checked] = field(default_factory=list)


class Probes:
    """What was asked, by the configuration that it was asked for."""

    def __init__(self) -> None:
        self._asked: dict[str, list[tuple[ConfigModel, asyncio.Task[Any]]]] = {}
        self._servers: dict[str, _Server] = {}

    async def once(self, config: ConfigModel, ask: Callable[[], Awaitable[Any]]) -> Any:
        """What asking came to; equal configurations, secrets included, are asked for once."""
        like = self._asked.setdefault(config.model_dump_json(), [])
        for known, asking in like:
            if known == config:
                return await asking
        asking = asyncio.create_task(_awaited(ask))
        like.append((config, asking))
        return await asking

    async def ask(self, server: str, ask: Callable[[], Awaitable[list[Checked]]]) -> list[Checked]:
        """Ask a server, when it is its turn and there is hope for an answer."""
        known = self._servers.setdefault(server, _Server()) if server else _Server()
        async with known.room:
            if not known.has_answered and len(known.silent) >= _SILENT:
                return known.silent[-1:]
            found = await ask()
        silent = [checked for checked in found if checked.is_silent]
        known.has_answered = known.has_answered or not silent
        known.silent += silent
        return found


async def _awaited(ask: Callable[[], Awaitable[Any]]) -> Any:
    return await ask()


def bounded(config: Any) -> Any:
    """A configuration with which nobody waits for long."""
    timeout = getattr(config, "timeout", None)
    if isinstance(timeout, timedelta) and timeout > TIMEOUT:
        return config.model_copy(update={"timeout": TIMEOUT})
    return config
