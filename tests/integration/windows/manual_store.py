"""The window store with a clock that stands still and answers that get lost."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from sinfer.windows.store import Argument, Store

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
        super().__init__(url)
        self.lose_answer = False
        self._clock = clock
        self._now_ms = START_MS
        for path in (files("sinfer.windows") / "scripts").iterdir():
            name, source = path.name.removesuffix(".lua"), path.read_text()
            reading = f"redis.call('HMGET', '{clock}', 's', 'us')"
            source = source.replace("redis.call('TIME')", reading)
            self._scripts[name] = self.redis.register_script(source)

    async def run(self, script: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        if self.lose_answer:
            self.lose_answer = False
            await super().run(script, keys, args)
        return await super().run(script, keys, args)

    async def advance(self, ms: int) -> None:
        """Move the clock."""
        self._now_ms += ms
        seconds, rest = divmod(self._now_ms, 1000)
        await self.redis.hset(self._clock, mapping={"s": seconds, "us": rest * 1000})

    @property
    def time_ms(self) -> int:
        """What the clock says."""
        return self._now_ms

    async def now_ms(self) -> int:
        return self._now_ms
