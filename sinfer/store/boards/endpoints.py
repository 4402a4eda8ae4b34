"""What all workers together grant a model's endpoint: its breaker, and the calls under way."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sinfer.store.keys import EndpointKeys
from sinfer.store.lua import Argument

if TYPE_CHECKING:
    from sinfer.store.connection import Store


@dataclass(frozen=True, slots=True)
class MayCall:
    """Whether an endpoint may be called.

    Attributes:
        wait_ms: how long nobody may call; 0 when calls may be made now.
        on_trial: whether only a single call may be made, and this caller has it.
    """

    wait_ms: int
    on_trial: bool


@dataclass(frozen=True, slots=True)
class Place:
    """How a place for a call is asked for, and given back.

    Attributes:
        holder: who has it or asks for it, unique to this place.
        task: ``product/task`` that it is for.
        most: places of the endpoint at most; None for any number.
        learns: whether there are as many as the endpoint bears, as far as that is known.
    """

    holder: str
    task: str
    most: int | None
    learns: bool


Fate: TypeAlias = Literal["ok", "busy", ""]
"""What a call tells of how many an endpoint bears: it was answered; it was refused as one too many,
or had no answer in time; or nothing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A call that has ended.

    Attributes:
        place: that it held.
        took_ms: how long it took.
        fate: what it tells.
        items: that it asked about.
    """

    place: Place
    took_ms: float = 0.0
    fate: Fate = ""
    items: int = 1


class EndpointState:
    """The state of one endpoint.

    All of it raises ``UnavailableError`` when Redis cannot be reached, and ``StoreFullError`` when
    it takes nothing more.

    Args:
        store: the window store.
        endpoint: the model that is called.
        call_ms: how long a call lasts at most.
    """

    def __init__(self, store: Store, endpoint: str, call_ms: int) -> None:
        self._store = store
        self._keys = EndpointKeys(endpoint)
        self._call_ms = call_ms

    async def may_call(self, caller: str) -> MayCall:
        """Whether calls may be made; one caller gets the trial of a breaker that is half open."""
        state, wait_ms = await self._store.run(
            "ask_endpoint_breaker", [self._keys.clock, self._keys.breaker], [caller, self._call_ms]
        )
        return MayCall(int(wait_ms), state == b"half")

    async def close_breaker(self) -> None:
        """A call was answered."""
        await self._store.ask(self._store.redis.delete(self._keys.breaker))

    async def note_failure(self, most: int, first_ms: int, longest_ms: int) -> tuple[int, bool]:
        """A call failed for want of the endpoint.

        Args:
            most: failures in a row that open the breaker.
            first_ms, longest_ms: how long it stays open, the first time and at most.

        Returns:
            How long it stays open, milliseconds; 0 when it is closed. And whether this opened it.
        """
        wait_ms, opened = await self._store.run(
            "note_endpoint_failure",
            [self._keys.clock, self._keys.breaker],
            [most, first_ms, longest_ms],
            asked=self._keys.asked(uuid.uuid4().hex),
        )
        return int(wait_ms), bool(opened)

    async def end_trial(self, caller: str) -> None:
        """The caller makes no use of its trial."""
        await self._store.run("end_endpoint_trial", [self._keys.breaker], [caller])

    async def take_place(
        self, place: Place, *, due_ms: int, wait_ms: int, channel: str = ""
    ) -> tuple[bool, int]:
        """Take a place for a call, or wait for one: whoever has a right to it first gets it.

        Args:
            place: what is asked for; asked again, it keeps its turn.
            due_ms: when the results are due, milliseconds from now.
            wait_ms: how long it waits until it asks again at most.
            channel: is told when the place is given to it; nobody is by default.

        Returns:
            Whether it has the place, and of how many; 0 where they are not limited.
        """
        ended: list[Argument] = ["", 0, "", 1]
        wanted: list[Argument] = [f"{place.holder} {place.task}", max(0, due_ms), wait_ms, channel]
        return await self._move(place, ended, wanted)

    async def free_place(self, ended: Ended) -> int:
        """A call has ended, or nobody waits for its place any more; returns how many there are."""
        place = ended.place
        words: list[Argument] = [
            f"{place.holder} {place.task}", f"{ended.took_ms:.3f}", ended.fate, ended.items,
        ]  # fmt: skip
        return (await self._move(place, words, ["", 0, 0, ""]))[1]

    async def _move(
        self, place: Place, ended: list[Argument], wanted: list[Argument]
    ) -> tuple[bool, int]:
        keys = [self._keys.clock, self._keys.slots, self._keys.waiting, self._keys.learned]
        args: list[Argument] = [place.most or 0, int(place.learns), self._call_ms]
        taken, limit = await self._store.run("move_endpoint_slots", keys, [*args, *ended, *wanted])
        return bool(taken), int(limit)
