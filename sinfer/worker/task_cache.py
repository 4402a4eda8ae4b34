"""The tasks that a worker knows, kept open as long as windows of theirs come."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sinfer.aio.cancel import end
from sinfer.aio.own_thread import OwnThread
from sinfer.aio.shared import Shared
from sinfer.errors import ConfigError
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.registry import load_products, not_loaded
from sinfer.products.revisions import Revision, task_of
from sinfer.products.task import InferTaskConfig
from sinfer.products.watch import TaskFollower
from sinfer.settings import settings
from sinfer.store.partition.task_config import earlier_config, newest_config
from sinfer.windows.ids import Scope
from sinfer.worker.ready_task import ReadyTask
from sinfer.worker.stored_calls import called_by, check_call, is_brought_by

if TYPE_CHECKING:
    from sinfer.store.connection import Store
    from sinfer.store.wakes import WakeListener

_log = logging.getLogger(__name__)

_REPLACED_S = 5.0
"""An earlier revision is closed after nobody used it for so long."""
_UNUSED_S = 600.0
"""A task of which no window came for so long is closed."""
_SWEEP_S = 30.0
_ASK_S = 5.0
"""So long windows wait for a task manager that has to be asked about their task."""

_STALE_S = 1.0
"""So long they wait for news of a task that is known."""

_CLOSE_S = 0.1
"""So long whoever closes unused tasks waits for them."""

_MAKE_S = 30.0
"""So long a pipeline may take to be made; then its windows wait for another try."""

_LOAD_AGAIN_S = 10.0
"""How often products are looked for again when one that is not loaded is asked for."""


@dataclass(slots=True, kw_only=True)
class _Entry(Shared[ReadyTask]):
    """A task that is kept open.

    Attributes:
        source: what it was made of.
        own: the task as this process' own task manager has it, where that was needed.
        meaning: of the configuration; see ``Revision``.
        used_s: when one of its users last began or ended, by the monotonic clock.
    """

    source: tuple[str, ...]
    own: InferTaskConfig | None
    meaning: str = ""
    used_s: float = 0.0


class HeldTask:
    """A task of which windows are processed; give it back with ``release``.

    Attributes:
        current: the task as it is now.
        meaning: of its configuration, as records of windows name it.
    """

    def __init__(self, catalogue: Catalogue, scope: Scope, packed: str, entry: _Entry) -> None:
        self._catalogue = catalogue
        self._scope = scope
        self._packed = packed
        self.meaning = entry.meaning
        self._entry = entry
        self._others: dict[str, _Entry] = {}
        self.current = entry.value

    async def of(self, config: str) -> ReadyTask:
        """The task for a window.

        Args:
            config: what the window was opened under, as its record says.

        Raises:
            ConfigError: that configuration cannot be used any more.
            UnavailableError: Redis is unavailable.
        """
        if config in ("", self.meaning):
            return self.current
        entry = self._others.get(config)
        if entry is None:
            entry = await self._catalogue.hold_earlier(self._scope, config, self._packed)
            if entry is None:
                return self.current
            if config in self._others:  # another window asked meanwhile
                entry.users -= 1
            self._others[config] = entry
        return entry.value

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
    manager is asked, as often as it wants. While one task waits for that, or for its pipeline to be
    made, no other does.

    Args:
        store: the window store.
        wakes: tells of places at endpoints; nobody does by default.

    Attributes:
        entries: tasks that are open, by product and task.
    """

    def __init__(self, store: Store, wakes: WakeListener | None = None) -> None:
        self._store = store
        self._wakes = wakes
        self._products: dict[str, Product] = {}
        self._problems: dict[str, str] = {}
        self._loaded_s = float("-inf")
        self._known_calls: set[tuple[str, str | None]] = set()
        self._followers: dict[str, TaskFollower] = {}
        self._refreshing: dict[str, tuple[asyncio.Task[bool], float]] = {}
        self._making: dict[tuple[str, str], OwnThread[InferPipeline[Any, Any]]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self.entries: dict[tuple[str, str], list[_Entry]] = {}
        self._locks: defaultdict[tuple[str, str], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._swept_s = time.monotonic()

    async def hold(self, scope: Scope, packed: str | None = None) -> HeldTask:
        """The task of a partition, ready to run.

        Args:
            scope: the partition.
            packed: what is kept of the task; None to ask for it.

        Raises:
            ConfigError: the product or the task is not known here, or cannot be used.
            UnavailableError: Redis is unavailable.
        """
        if packed is None:
            packed = await self.kept(scope)
        async with self._locks[scope.product, scope.task]:
            product = self._product(scope.product)
            if packed:
                entry = await self._known(product, scope.task, (packed,))
                if entry is None:
                    revision = Revision.unpack(packed)
                    entry = await self._make(product, scope.task, (packed,), revision, None)
            else:
                entry = await self._own_entry(product, scope.task)
            held = HeldTask(self, scope, packed, self._take(entry))
            try:
                await self._close_unused((product.name, scope.task))
            except BaseException:  # nobody would give it back
                held.release()
                raise
            return held

    async def kept(self, scope: Scope) -> str:
        """What is kept of the task; empty when nothing is."""
        return await newest_config(self._store, scope)

    async def hold_earlier(self, scope: Scope, config: str, packed: str) -> _Entry | None:
        """The task as windows were opened under; None when that is not kept."""
        text = await earlier_config(self._store, scope, config)
        if not text:
            return None
        newest = Revision.unpack(packed) if packed else None
        async with self._locks[scope.product, scope.task]:
            product = self._product(scope.product)
            source = (text, packed)
            entry = await self._known(product, scope.task, source)
            if entry is None:
                revision = Revision(config, text)
                entry = await self._make(product, scope.task, source, revision, newest)
            return self._take(entry)

    def _take(self, entry: _Entry) -> _Entry:
        entry.users += 1
        entry.used_s = time.monotonic()
        return entry

    # --- opening ---

    async def _known(
        self, product: Product, task_id: str, source: tuple[str, ...]
    ) -> _Entry | None:
        """What is open already of a task that is made of the same; None where nothing is."""
        for entry in self.entries.get((product.name, task_id), []):
            if entry.source == source:
                entry.used_s = time.monotonic()  # nobody closes it meanwhile
                if entry.own is None or await self._own(product, task_id) in (None, entry.own):
                    return entry
        return None

    async def _make(
        self,
        product: Product,
        task_id: str,
        source: tuple[str, ...],
        revision: Revision,
        newest: Revision | None,
    ) -> _Entry:
        own = None
        try:
            config = task_of(product.task_type, revision, newest)
        except ConfigError:
            own = await self._own(product, task_id)
            if own is None:
                raise
            config = task_of(product.task_type, revision, newest, own)
        await self._check_stored(product, task_id, config)
        entry = await self._open(product, config, source, own)
        entry.meaning = revision.meaning
        return entry

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
        for entry in self.entries.get((product.name, task_id), []):
            if not entry.source and entry.own == own:
                return entry
        return await self._open(product, own, (), own)

    async def _open(
        self,
        product: Product,
        config: InferTaskConfig,
        source: tuple[str, ...],
        own: InferTaskConfig | None,
    ) -> _Entry:
        pipeline = await self._make_pipeline(product, config)
        ready = ReadyTask(self._store, product, config, pipeline=pipeline, wakes=self._wakes)
        entry = _Entry(value=ready, source=source, own=own)
        self.entries.setdefault((product.name, config.id), []).append(entry)
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

    async def _make_pipeline(
        self, product: Product, config: InferTaskConfig
    ) -> InferPipeline[Any, Any]:
        """The product's code, made in a thread: it may load a model, or wait for something."""
        name = (product.name, config.id)
        thread = self._making.setdefault(name, OwnThread(f"pipeline of {config.id}"))
        for _ in range(2):
            try:
                async with asyncio.timeout(_MAKE_S):
                    pipeline = await thread.call(lambda: product.make_pipeline(config))
            except TimeoutError:
                raise ConfigError(
                    f"product {product.name!r}, task {config.id!r}: its pipeline is not made within"
                    f" {_MAKE_S:g}s"
                ) from None
            if pipeline.task == config:  # else it was under way since before the task changed
                break
        return pipeline

    async def _own(self, product: Product, task_id: str) -> InferTaskConfig | None:
        """A task as this process' own task manager has it.

        While that does not answer, what it said last counts.

        Raises:
            ConfigError: it has never said anything of the task, and takes too long.
        """
        follower = self._followers.setdefault(product.name, TaskFollower(product))
        if not follower.wait_s or task_id not in follower.tasks:
            patience_s = _STALE_S if task_id in follower.tasks else _ASK_S
            if not await self._refresh(product.name, follower, patience_s) and (
                task_id not in follower.tasks
            ):
                raise ConfigError(
                    f"product {product.name!r}: its task manager has not said anything of task"
                    f" {task_id!r} for {_ASK_S:g}s"
                )
        found = follower.tasks.get(task_id)
        if found is None and follower.outage:
            raise ConfigError(
                f"product {product.name!r}: task {task_id!r} cannot be asked for: {follower.outage}"
            )
        return found

    async def _refresh(self, name: str, follower: TaskFollower, patience_s: float) -> bool:
        """Ask a task manager, or wait for the answer that it owes; returns whether it came.

        Args:
            name: of the product.
            follower: asks it.
            patience_s: how long to wait, seconds since it was asked.
        """
        asking, since_s = self._refreshing.get(name, (None, 0.0))
        if asking is None or asking.done():
            asking, since_s = asyncio.create_task(follower.refresh()), time.monotonic()
            self._refreshing[name] = asking, since_s
        rest_s = max(0.0, since_s + patience_s - time.monotonic())
        done, _ = await asyncio.wait({asking}, timeout=rest_s)
        return bool(done)

    # --- closing ---

    async def _close_unused(self, name: tuple[str, str]) -> None:
        """Close earlier revisions of a task, and from time to time all that was long unused."""
        await self._close_since(name, _REPLACED_S)
        if time.monotonic() - self._swept_s > _SWEEP_S:
            self._swept_s = time.monotonic()
            for other in list(self.entries):
                await self._close_since(other, _UNUSED_S)

    async def _close_since(self, name: tuple[str, str], unused_s: float) -> None:
        before_s = time.monotonic() - unused_s
        entries = self.entries.get(name, [])
        unused = [entry for entry in entries if not entry.users and entry.used_s <= before_s]
        self.entries[name] = [entry for entry in entries if entry not in unused]
        if not self.entries[name]:
            del self.entries[name]
            if not self._locks[name].locked():
                del self._locks[name]
        if unused:
            closing = {asyncio.create_task(entry.value.aclose()) for entry in unused}
            self._closing |= closing
            for task in closing:
                task.add_done_callback(self._closing.discard)
            # Sinks and clients of a product may hang: then they close while others go on.
            await asyncio.wait(closing, timeout=_CLOSE_S)

    async def aclose(self) -> None:
        """Close every task."""
        await end(*self._closing, *(asking for asking, _ in self._refreshing.values()))
        for entries in self.entries.values():
            for entry in entries:
                await entry.value.aclose()
        self.entries.clear()
        for name in self._followers:
            await self._products[name].close_tasks()
