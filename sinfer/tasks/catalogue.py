"""The tasks that a worker knows, kept open as long as windows of theirs come."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

from sinfer.errors import ConfigError
from sinfer.products.following import TaskFollower
from sinfer.products.product import Product
from sinfer.products.registry import load_products, not_loaded
from sinfer.products.revisions import Revision, task_of
from sinfer.products.task import InferTaskConfig
from sinfer.settings import settings
from sinfer.tasks.ready_task import ReadyTask
from sinfer.tasks.stored_calls import called_by, check_call, is_brought_by
from sinfer.windows.ids import Scope
from sinfer.windows.keys import CONFIG_FIELD, PartitionKeys
from sinfer.windows.store import Store

_log = logging.getLogger(__name__)

_REPLACED_S = 5.0
"""An earlier revision is closed after nobody used it for so long."""
_UNUSED_S = 600.0
"""A task of which no window came for so long is closed."""
_SWEEP_S = 30.0
_LOAD_AGAIN_S = 10.0
"""How often products are looked for again when one that is not loaded is asked for."""


@dataclass(slots=True)
class _Entry:
    """A task that is kept open.

    Attributes:
        source: what it was made of.
        own: the task as this process' own task manager has it, where that was needed.
        users: how many work with it.
        used_s: when one of them last began or ended, by the monotonic clock.
    """

    source: tuple[str, ...]
    own: InferTaskConfig | None
    ready: ReadyTask
    users: int = 0
    used_s: float = 0.0


class HeldTask:
    """A task of which windows are processed; give it back with ``release``.

    Attributes:
        current: the task as it is now.
    """

    def __init__(self, catalogue: Catalogue, scope: Scope, packed: str, entry: _Entry) -> None:
        self._catalogue = catalogue
        self._scope = scope
        self._packed = packed
        self._meaning = Revision.unpack(packed).meaning
        self._entry = entry
        self._others: dict[str, _Entry] = {}
        self.current = entry.ready

    async def of(self, config: str) -> ReadyTask:
        """The task for a window.

        Args:
            config: what the window was opened under, as its record says.

        Raises:
            ConfigError: that configuration cannot be used any more.
            UnavailableError: Redis is away.
        """
        if config in ("", self._meaning):
            return self.current
        entry = self._others.get(config)
        if entry is None:
            entry = await self._catalogue.hold_earlier(self._scope, config, self._packed)
            if entry is None:
                return self.current
            if config in self._others:  # another window asked meanwhile
                entry.users -= 1
            self._others[config] = entry
        return entry.ready

    async def is_current(self) -> bool:
        """Whether the task is still as it was when it was taken."""
        return await self._catalogue.kept(self._scope) == self._packed

    def release(self) -> None:
        """No window is processed with it any more."""
        for entry in (self._entry, *self._others.values()):
            entry.users -= 1
            entry.used_s = time.monotonic()


class Catalogue:
    """Opens tasks as they are kept with their windows, and closes those that nobody uses.

    Where nothing is kept, or where it lacks a secret that was written in clear, the product's task
    manager is asked, as often as it wants.

    Args:
        store: the window store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._products: dict[str, Product] = {}
        self._problems: dict[str, str] = {}
        self._loaded_s = float("-inf")
        self._known_calls: set[tuple[str, str | None]] = set()
        self._followers: dict[str, TaskFollower] = {}
        self._entries: dict[tuple[str, str], list[_Entry]] = {}
        self._lock = asyncio.Lock()
        self._swept_s = time.monotonic()

    async def hold(self, scope: Scope) -> HeldTask:
        """The task of a partition, ready to run.

        Raises:
            ConfigError: the product or the task is not known here, or cannot be used.
            UnavailableError: Redis is away.
        """
        packed = await self.kept(scope)
        async with self._lock:
            product = self._product(scope.product)
            if packed:
                revision = Revision.unpack(packed)
                entry = await self._entry(product, scope.task, (packed,), revision, None)
            else:
                entry = await self._own_entry(product, scope.task)
            held = HeldTask(self, scope, packed, self._take(entry))
            await self._close_unused((product.name, scope.task))
            return held

    def knows(self, scope: Scope) -> bool:
        """Whether the task is open already."""
        return (scope.product, scope.task) in self._entries

    async def kept(self, scope: Scope) -> str:
        """What is kept of the task; empty when nothing is."""
        found = await self._store.ask(
            self._store.redis.hget(PartitionKeys(scope).meta, CONFIG_FIELD)
        )
        return (found or b"").decode(errors="replace")  # what is garbled is refused as JSON

    async def hold_earlier(self, scope: Scope, config: str, packed: str) -> _Entry | None:
        """The task as windows were opened under; None when that is not kept."""
        kept = await self._store.ask(
            self._store.redis.hget(PartitionKeys(scope).meta, f"{CONFIG_FIELD}:{config}")
        )
        if not kept:
            return None
        text = kept.decode(errors="replace")
        newest = Revision.unpack(packed) if packed else None
        async with self._lock:
            product = self._product(scope.product)
            revision = Revision(config, text)
            return self._take(
                await self._entry(product, scope.task, (text, packed), revision, newest)
            )

    def _take(self, entry: _Entry) -> _Entry:
        entry.users += 1
        entry.used_s = time.monotonic()
        return entry

    # --- opening ---

    async def _entry(
        self,
        product: Product,
        task_id: str,
        source: tuple[str, ...],
        revision: Revision,
        newest: Revision | None,
    ) -> _Entry:
        for entry in self._entries.get((product.name, task_id), []):
            if entry.source == source and (
                entry.own is None or await self._own(product, task_id) in (None, entry.own)
            ):
                return entry
        own = None
        try:
            config = task_of(product.task_type, revision, newest)
        except ConfigError:
            own = await self._own(product, task_id)
            if own is None:
                raise
            config = task_of(product.task_type, revision, newest, own)
        await self._check_stored(product, task_id, config)
        return self._open(product, config, source, own)

    async def _check_stored(self, product: Product, task_id: str, config: InferTaskConfig) -> None:
        """What stands in the store is data: make sure that it is about this task, and loads
        nothing."""
        if config.id != task_id:
            raise ConfigError(
                f"task {task_id!r}: what is kept with its windows is of task {config.id!r}"
            )
        call = called_by(config)
        known = (product.name, call)
        if call is None or known in self._known_calls or is_brought_by(product, call):
            return
        await self._own(product, task_id)
        check_call(call, product, self._followers[product.name].tasks.values(), task_id)
        self._known_calls.add(known)

    async def _own_entry(self, product: Product, task_id: str) -> _Entry:
        own = await self._own(product, task_id)
        if own is None:
            raise ConfigError(f"product {product.name!r} has no valid task {task_id!r}")
        for entry in self._entries.get((product.name, task_id), []):
            if not entry.source and entry.own == own:
                return entry
        return self._open(product, own, (), own)

    def _open(
        self,
        product: Product,
        config: InferTaskConfig,
        source: tuple[str, ...],
        own: InferTaskConfig | None,
    ) -> _Entry:
        entry = _Entry(source, own, ReadyTask(self._store, product, config))
        self._entries.setdefault((product.name, config.id), []).append(entry)
        return entry

    def _product(self, name: str) -> Product:
        """A product that this process loads anyway: names come over the network."""
        if name not in self._products:
            if time.monotonic() - self._loaded_s >= _LOAD_AGAIN_S:
                self._products, self._problems = load_products(settings().products)
                self._loaded_s = time.monotonic()
            if name not in self._products:
                raise not_loaded(name, self._products, self._problems)
        return self._products[name]

    async def _own(self, product: Product, task_id: str) -> InferTaskConfig | None:
        """A task as this process' own task manager has it."""
        follower = self._followers.setdefault(product.name, TaskFollower(product))
        if not follower.wait_s or task_id not in follower.tasks:
            await follower.refresh()
        return follower.tasks.get(task_id)

    # --- closing ---

    async def _close_unused(self, name: tuple[str, str]) -> None:
        """Close earlier revisions of a task, and from time to time all that was long unused."""
        await self._close_since(name, _REPLACED_S)
        if time.monotonic() - self._swept_s > _SWEEP_S:
            self._swept_s = time.monotonic()
            for other in list(self._entries):
                await self._close_since(other, _UNUSED_S)

    async def _close_since(self, name: tuple[str, str], unused_s: float) -> None:
        before_s = time.monotonic() - unused_s
        entries = self._entries[name]
        unused = [entry for entry in entries if not entry.users and entry.used_s <= before_s]
        self._entries[name] = [entry for entry in entries if entry not in unused]
        if not self._entries[name]:
            del self._entries[name]
        for entry in unused:
            await entry.ready.aclose()

    async def aclose(self) -> None:
        """Close every task."""
        for entries in self._entries.values():
            for entry in entries:
                await entry.ready.aclose()
        self._entries.clear()
        for name in self._followers:
            await self._products[name].close_tasks()
