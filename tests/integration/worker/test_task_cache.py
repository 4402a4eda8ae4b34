"""Workers take tasks from beside their windows, and hold no more of them open than are used."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinfer import ConfigError
from sinfer.products.revisions import revision_of
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope
from sinfer.worker import task_cache as module
from sinfer.worker.ready_task import ReadyTask
from sinfer.worker.task_cache import Catalogue
from tests.support.task_settings import Threshold, product_of, settings_of


class World:
    """A product whose tasks this process knows, and what ingestors stored."""

    def __init__(self, store: Store, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.scope = Scope("upper", unique, "s.in")
        self.own: list[dict[str, Any]] = []
        self.closed: list[ReadyTask] = []
        product = product_of(self.own)
        product.tasks.list_tasks = lambda: list(self.own)  # type: ignore[method-assign]
        product.tasks.refresh = 0
        monkeypatch.setattr(module, "load_products", lambda _: ({product.name: product}, {}))
        aclose = ReadyTask.aclose

        async def noted(ready: ReadyTask) -> None:
            self.closed.append(ready)
            await aclose(ready)

        monkeypatch.setattr(ReadyTask, "aclose", noted)
        self.catalogue = Catalogue(store)

    def task(self, **changes: Any) -> Threshold:
        return Threshold.model_validate(settings_of(self.scope.task, **changes))

    async def keep(self, task: Threshold, field: str = "config") -> str:
        """Store a configuration as an ingestor does; returns its meaning."""
        revision = revision_of(task)
        value = revision.pack() if field == "config" else revision.text
        await self.store.redis.hset(PartitionKeys(self.scope).meta, field, value)
        return revision.meaning


@pytest.fixture
async def world(store: Store, unique: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    world = World(store, unique, monkeypatch)
    yield world
    await world.catalogue.aclose()


async def test_a_task_that_was_removed_is_still_known_by_its_windows(world: World) -> None:
    kept = world.task(threshold=0.1)
    await world.keep(kept)
    held = await world.catalogue.hold(world.scope)
    assert held.current.config == kept
    held.release()


async def test_a_hold_that_is_cancelled_gives_the_task_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.keep(world.task(threshold=0.1))
    (await world.catalogue.hold(world.scope)).release()

    async def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(world.catalogue, "_close_unused", cancelled)
        with pytest.raises(asyncio.CancelledError):
            await world.catalogue.hold(world.scope)
    [[entry]] = world.catalogue._entries.values()
    assert entry.users == 0


async def test_a_task_of_which_nothing_is_kept_is_asked_for(world: World) -> None:
    with pytest.raises(ConfigError, match="no valid task"):
        await world.catalogue.hold(world.scope)
    world.own.append(settings_of(world.scope.task, threshold=0.3))
    held = await world.catalogue.hold(world.scope)
    assert held.current.config == world.task(threshold=0.3)
    held.release()


async def test_windows_are_processed_under_their_own_meaning(world: World) -> None:
    earlier = world.task(threshold=0.1)
    meaning = revision_of(earlier).meaning
    await world.keep(earlier, f"config:{meaning}")
    now = await world.keep(world.task(threshold=0.9, sinks=[{"type": "log", "limit": 1}]))
    held = await world.catalogue.hold(world.scope)
    assert await held.of(now) is held.current
    assert await held.of("") is held.current
    old = (await held.of(meaning)).config
    assert old == world.task(threshold=0.1, sinks=[{"type": "log", "limit": 1}])
    assert await held.of("gone") is held.current
    held.release()


async def test_a_secret_in_clear_comes_from_the_own_list_and_follows_it(world: World) -> None:
    def sinks(password: str) -> list[dict[str, Any]]:
        return [{"type": "http", "url": f"http://me:{password}@sink"}]

    await world.keep(world.task(sinks=sinks("one")))
    with pytest.raises(ConfigError, match=r"sinks\.0\.url"):
        await world.catalogue.hold(world.scope)
    for password in ("one", "two"):
        world.own[:] = [settings_of(world.scope.task, sinks=sinks(password))]
        held = await world.catalogue.hold(world.scope)
        sink: Any = held.current.config.sinks[0]
        assert password in sink.url.get_secret_value()
        held.release()


async def test_a_replaced_task_is_closed_when_its_last_window_is_done(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REPLACED_S", 0.0)
    await world.keep(world.task())
    busy = await world.catalogue.hold(world.scope)
    await world.keep(world.task(limits={"max_attempts": 1}))
    changed = await world.catalogue.hold(world.scope)
    assert changed.current is not busy.current
    assert not world.closed
    busy.release()
    (await world.catalogue.hold(world.scope)).release()
    assert world.closed == [busy.current]
    changed.release()


async def test_the_same_task_is_opened_once_for_all_its_partitions(world: World) -> None:
    await world.keep(world.task())
    first = await world.catalogue.hold(world.scope)
    world.scope = world.scope._replace(partition="s.other")
    await world.keep(world.task())
    second = await world.catalogue.hold(world.scope)
    assert second.current is first.current
    first.release()
    second.release()


async def test_what_was_long_unused_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNUSED_S", 0.0)
    monkeypatch.setattr(module, "_SWEEP_S", 0.0)
    await world.keep(world.task())
    unused = await world.catalogue.hold(world.scope)
    unused.release()
    world.scope = world.scope._replace(task=f"{world.scope.task}x")
    await world.keep(world.task())
    (await world.catalogue.hold(world.scope)).release()
    assert unused.current in world.closed


# --- what is named in messages and in the store loads nothing ---


@pytest.fixture
def foreign(tmp_path: Path, unique: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A module that can be imported and that no product has anything to do with."""
    name = f"foreign_{unique}"
    text = (
        "from tests.support.task_settings import product_of\n"
        "product = product_of([])\n"
        "def call(x): ..."
    )
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    assert name not in sys.modules


async def test_a_product_that_is_not_loaded_is_not_known(world: World, foreign: str) -> None:
    for name in (
        foreign,
        f"{foreign}:product",
        "os",
        "",
        "x" * 100_000,
        "tests.support.task_settings",
    ):
        with pytest.raises(ConfigError, match="is not known") as error:
            await world.catalogue.hold(world.scope._replace(product=name))
        assert len(str(error.value)) < 1000


async def test_a_function_that_only_the_store_names_is_not_loaded(
    world: World, foreign: str
) -> None:
    for call in (
        f"{foreign}:call",
        "os:system",
        "tests.support.task_settings:product_of.__globals__",
    ):
        await world.keep(world.task(inference={"type": "python", "call": call}))
        with pytest.raises(ConfigError, match="is named in Redis, but by no task"):
            await world.catalogue.hold(world.scope)


async def test_a_function_that_a_task_of_the_product_names_is_loaded(world: World) -> None:
    inference = {"type": "python", "call": "math:floor"}
    await world.keep(world.task(inference=inference))
    other = settings_of(f"{world.scope.task}-other", inference=inference)
    world.own.append(other)
    (await world.catalogue.hold(world.scope)).release()
    world.own.clear()  # it may change: what was named once stays known
    await world.keep(world.task(inference=inference, limits={"max_attempts": 2}))
    (await world.catalogue.hold(world.scope)).release()


@pytest.mark.parametrize(
    "kept", [b"\xff\xfe", b"", b"1 {", b"1 [1]", b'1 {"id": 5}', b"1 " + b"[" * 100_000]
)
async def test_a_configuration_that_nobody_wrote_is_refused_by_name(
    world: World, kept: bytes
) -> None:
    await world.store.redis.hset(PartitionKeys(world.scope).meta, "config", kept)
    with pytest.raises(ConfigError):
        await world.catalogue.hold(world.scope)


async def test_a_configuration_of_another_task_is_refused(world: World) -> None:
    other = Threshold.model_validate(settings_of("other"))
    await world.keep(other)
    with pytest.raises(ConfigError, match="is of task 'other'"):
        await world.catalogue.hold(world.scope)
