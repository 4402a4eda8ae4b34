"""What all workers together know of a model's endpoint: its breaker, and the calls under way."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.keys import EndpointKeys

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

    async def take_slot(self, holder: str, cap: int) -> bool:
        """Take one of so many places for calls; whether there was one."""
        keys = [self._keys.clock, self._keys.slots]
        return bool(await self._store.run("take_endpoint_slot", keys, [holder, cap, self._call_ms]))

    async def free_slot(self, holder: str) -> None:
        """The call has ended."""
        await self._store.ask(self._store.redis.zrem(self._keys.slots, holder))
