"""What is paused: tasks or whole products, by a person or because no call can succeed."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import msgspec

from sinfer.errors import StoreError
from sinfer.store import keys
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import escape, unescape

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_FRESH_S = 1.0
"""How soon every process knows of a pause."""


class Pause(msgspec.Struct, frozen=True):
    """Why something is paused.

    Attributes:
        reason: for people.
        since_ms: when it began, milliseconds since the epoch.
        what: ``"all"`` stops pulling and processing, ``"processing"`` processing alone,
            ``"drain"`` pulling alone, and closes what is open.
    """

    reason: str
    since_ms: int
    what: Literal["all", "processing", "drain"] = "all"


_STOPS = ("drain", "processing", "all")
"""What stops more comes later."""


def _unpack(blob: bytes) -> Pause:
    """A pause. One that cannot be read was meant as one, and concerns nobody else."""
    try:
        return msgspec.json.decode(blob, type=Pause)
    except msgspec.MsgspecError as error:
        return Pause(f"paused in a way that cannot be read ({error})", 0)


def _name(product: str, task: str | None) -> str:
    return escape(product) if task is None else f"{escape(product)}/{escape(task)}"


class PauseBoard:
    """Reads and writes pauses. They are in Redis, so they survive restarts of everything else.

    Attributes:
        known: what was paused at the last ``refresh``, by the names of tasks and products.
        none_until_s: until then, by the monotonic clock, nothing is paused as far as is known.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.known: dict[str, Pause] = {}
        self._asked = self.none_until_s = float("-inf")

    async def pause(self, product: str, task: str | None, pause: Pause) -> None:
        """Pause a task, or with None for the task the whole product."""
        blob = msgspec.json.encode(pause)
        await self._store.ask(self._store.redis.hset(keys.PAUSED, _name(product, task), blob))
        self.known[_name(product, task)] = pause
        self._asked = self.none_until_s = float("-inf")

    async def resume(self, product: str, task: str | None) -> bool:
        """End a pause, and have beat send for the windows that wait.

        Returns:
            False when there was none of that name.
        """
        # Asked apart: a removal that is asked for twice says that there was nothing to remove.
        redis, name = self._store.redis, _name(product, task)
        ended = await self._store.ask(redis.hexists(keys.PAUSED, name))
        await self._store.ask(redis.hdel(keys.PAUSED, name))
        self._asked = self.none_until_s = float("-inf")
        if ended:
            schedule = Schedule(self._store)
            for scope in await schedule.partitions():
                if scope.product == product and task in (None, scope.task):
                    # What was refused before was refused by what has been put right.
                    refusals = keys.refusals(product, scope.task)
                    await self._store.ask(self._store.redis.delete(refusals))
                    with suppress(StoreError):  # beat tells of it; the others go on
                        await schedule.hint_again(scope)
        return bool(ended)

    async def resume_after_failure(self, product: str, task: str) -> bool:
        """End a pause that was made because no call of the task can succeed; others stay.

        Returns:
            Whether there was one.
        """
        self._asked = self.none_until_s = float("-inf")
        await self.refresh()
        pause = self.known.get(_name(product, task))
        if pause is None or pause.what != "processing":
            return False
        return await self.resume(product, task)

    async def refresh(self, *, at_once: bool = False) -> None:
        """Read what is paused, unless that was done a moment ago and need not be ``at_once``."""
        if time.monotonic() - self._asked < _FRESH_S and not at_once:
            return
        found = await self._store.ask(self._store.redis.hgetall(keys.PAUSED))
        self.known = {
            name.decode(errors="backslashreplace"): _unpack(blob) for name, blob in found.items()
        }
        self._asked = time.monotonic()
        self.none_until_s = float("-inf") if self.known else self._asked + _FRESH_S

    def of(self, product: str, task: str) -> Pause | None:
        """The pause of a task or of its product, as of the last ``refresh``.

        Where both are paused, the one that stops more.
        """
        found = [self.known.get(_name(product, name)) for name in (task, None)]
        pauses = [pause for pause in found if pause is not None]
        return max(pauses, key=lambda pause: _STOPS.index(pause.what), default=None)

    async def stops(self, product: str, task: str) -> bool:
        """Whether workers are to leave the windows of a task alone now.

        That is asked for at once where it was so a moment ago: who resumed the task has had hints
        sent, and left alone they would be missed.
        """
        await self.refresh()
        if not self.stops_processing(product, task):
            return False
        await self.refresh(at_once=True)
        return self.stops_processing(product, task)

    def stops_processing(self, product: str, task: str) -> bool:
        """Whether workers are to leave the windows of a task alone."""
        pause = self.of(product, task)
        return pause is not None and pause.what != "drain"

    def all(self) -> dict[tuple[str, str | None], Pause]:
        """Everything that is paused, by product and task, as of the last ``refresh``."""
        paused: dict[tuple[str, str | None], Pause] = {}
        for name, pause in self.known.items():
            product, slash, task = name.partition("/")
            paused[unescape(product), unescape(task) if slash else None] = pause
        return paused
