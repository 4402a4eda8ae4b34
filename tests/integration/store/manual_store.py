"""The window store with a clock that stands still and answers that get lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sinfer.store.connection import Store
from sinfer.store.keys import CLOCK
from sinfer.store.lua import Argument

START_MS = 1_700_000_000_000


class ManualStore(Store):
    """Runs the real scripts, which read the time from a key instead of from ``TIME``.

    Args:
        url: the server.
        clock: key that holds the time.

    Attributes:
        lose_answer: run the next script twice and give the second answer, as a client does that
            got none to its first try.
    """

    def __init__(self, url: str, clock: str) -> None:
        self.lose_answer = False
        self._clock = clock
        super().__init__(url)
        self._now_ms = START_MS

    def _texts(self, source: str) -> tuple[str, str]:
        reading = f"redis.call('HMGET', '{self._clock}', 's', 'us')"
        plain, kept = super()._texts(source)
        clock = "redis.call('TIME')"
        return plain.replace(clock, reading), kept.replace(clock, reading)

    async def run(
        self,
        script: str,
        keys: Sequence[str],
        args: Sequence[Argument],
        *,
        asked: str | None = None,
    ) -> Any:
        keys = [self._clock + ":of-the-index" if key == CLOCK else key for key in keys]
        if self.lose_answer:
            self.lose_answer = False
            await super().run(script, keys, args, asked=asked)
        return await super().run(script, keys, args, asked=asked)

    async def advance(self, ms: int) -> None:
        """Move the clock."""
        self._now_ms += ms
        seconds, rest = divmod(self._now_ms, 1000)
        await self.redis.hset(self._clock, mapping={"s": seconds, "us": rest * 1000})

    @property
    def time_ms(self) -> int:
        """What the clock says."""
        return self._now_ms

    async def now_ms(self, clock: str = CLOCK) -> int:
        return self._now_ms if clock == CLOCK else await super().now_ms(clock)
