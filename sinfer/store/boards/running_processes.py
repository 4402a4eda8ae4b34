"""Which workers and beats run, by the signs of life that they give; nothing is decided by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from sinfer.errors import StoreError
from sinfer.store.keys import ALIVE, CLOCK
from sinfer.store.lua import Argument

if TYPE_CHECKING:
    from sinfer.store.connection import Store

SIGN_S = 2.0
"""How often a process gives a sign of life."""

SILENT_AFTER_MS = 10_000
"""A process that has given none for so long is gone, or frozen."""

_KEPT_MS = 60_000


class Presence(msgspec.Struct, array_like=True, frozen=True):
    """A process that runs, as it says.

    Attributes:
        kind: what it is.
        name: for people: ``worker@host``, or beat's host.
        process: its process id; with Celery's pool of processes a worker has several.
        token: tells it from others of the same name and id.
        products: which it can work on.
        broken: products that it could not load, by what names them, and why.
        queues: from which it takes messages.
        broker: to whom it is connected, without password.
        deaf: why it takes no messages now; empty when it does.
        version: of sinfer.
    """

    kind: Literal["worker", "beat"]
    name: str
    process: int
    token: str
    products: list[str] = []
    broken: dict[str, str] = {}
    queues: list[str] = []
    broker: str = ""
    deaf: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Present:
    """Who is there at one moment.

    Attributes:
        processes: those that gave a sign of life lately.
        tick_ms: how long ago the last tick of beat was, milliseconds; None when there was none.
    """

    processes: list[Presence]
    tick_ms: int | None

    @property
    def workers(self) -> list[Presence]:
        """The processes of workers."""
        return [found for found in self.processes if found.kind == "worker"]

    @property
    def beats(self) -> list[Presence]:
        """The beats."""
        return [found for found in self.processes if found.kind == "beat"]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Presence)


class PresenceBoard:
    """Where processes give their signs of life, by the store's clock.

    Args:
        store: the window store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told = b""

    async def tell(self, presence: Presence) -> None:
        """Give a sign of life. It may differ from the last one.

        Raises:
            UnavailableError: Redis cannot be reached.
            StoreError: it takes nothing.
        """
        sign = _encoder.encode(presence)
        before = self._told if self._told != sign else b""
        await self._run(sign, before)
        self._told = sign

    async def leave(self) -> None:
        """The process ends: take its sign back; raises as ``tell`` does."""
        await self._run(b"", self._told)

    async def _run(self, sign: bytes, before: bytes) -> None:
        arguments: list[Argument] = [SILENT_AFTER_MS, _KEPT_MS, sign, before]
        try:
            await self._store.run("give_sign_of_life", [CLOCK, ALIVE], arguments)
        except StoreError as error:
            if "WRONGTYPE" not in str(error):
                raise
            await self._store.ask(self._store.redis.delete(ALIVE))

    async def read(self) -> Present:
        """Who gave a sign of life lately, by name.

        Raises:
            UnavailableError: Redis cannot be reached.
        """
        now_ms = await self._store.now_ms()
        pipeline = self._store.redis.pipeline(transaction=False)
        pipeline.zrange(ALIVE, now_ms - SILENT_AFTER_MS, "+inf", byscore=True)
        pipeline.hget(CLOCK, "tick_until")
        signs, tick_until = await self._store.ask_each(pipeline)
        processes = []
        for sign in signs or ():
            try:
                processes.append(_decoder.decode(sign))
            except (msgspec.MsgspecError, UnicodeDecodeError):  # of another version
                continue
        processes.sort(key=lambda found: (found.kind, found.name, found.process, found.token))
        tick_ms = None if tick_until is None else max(0, now_ms - int(float(tick_until)))
        return Present(processes, tick_ms)
