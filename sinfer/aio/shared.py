"""What several share: how many they are, and connections that the last one closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary


class Closable(Protocol):
    """Anything that is closed once."""

    async def aclose(self) -> None: ...


K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Closable)
T = TypeVar("T")


@dataclass(slots=True)
class Shared(Generic[T]):
    """Something that several use.

    Attributes:
        value: what they share.
        users: how many they are.
    """

    value: T
    users: int = field(default=0, kw_only=True)


class SharedByLoop(Generic[K, V]):
    """One object for each key and event loop.

    Loops never share: an object belongs to the loop it was made on, and a forked child starts
    with nothing.

    Args:
        make: makes the object of a key; connecting is its own business, later.
    """

    def __init__(self, make: Callable[[K], V]) -> None:
        self._make = make
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[K, Shared[V]]] = (
            WeakKeyDictionary()
        )

    def acquire(self, key: K) -> V:
        """The object of the key on the running loop; made when nobody has it yet."""
        entries = self._loops.setdefault(asyncio.get_running_loop(), {})
        entry = entries.get(key)
        if entry is None:
            entry = entries[key] = Shared(self._make(key))
        entry.users += 1
        return entry.value

    async def release(self, key: K) -> None:
        """Let go of what ``acquire`` gave; the last one closes it."""
        entries = self._loops[asyncio.get_running_loop()]
        entry = entries[key]
        entry.users -= 1
        if entry.users == 0:
            del entries[key]
            await entry.value.aclose()
