"""A task manager or a pipeline that hangs, blocks or raises stalls its own windows alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from sinfer import ConfigError
from sinfer.aio.own_thread import OwnThread
from sinfer.embedded.servers import RedisServer
from sinfer.products.product import Product
from sinfer.products.revisions import revision_of
from sinfer.store.connection import Store
from sinfer.store.keys import CONFIG_FIELD, PartitionKeys
from sinfer.windows.ids import Scope
from sinfer.worker import task_cache as module
from sinfer.worker.task_cache import Catalogue
from tests.support.task_settings import Threshold, product_of, settings_of

pytestmark = pytest.mark.integration


class World:
    """A slow product and a good one, whose tasks are not kept, so that managers are asked."""

    def __init__(self, store: Store, unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = store
        self.slow = product_of([settings_of("t")], f"slow{unique}")
        self.good = product_of([settings_of("t")], f"good{unique}")
        products = {product.name: product for product in (self.slow, self.good)}
        monkeypatch.setattr(module, "load_products", lambda modules: (products, {}))
        monkeypatch.setattr(module, "_ASK_S", 0.3)
        monkeypatch.setattr(module, "_STALE_S", 0.1)
        self.catalogue = Catalogue(store)
        self.over = threading.Event()

    def scope(self, product: Product, task: str = "t") -> Scope:
        return Scope(product.name, task, "s.in")

    async def hold(self, product: Product, task: str = "t") -> None:
        (await self.catalogue.hold(self.scope(product, task))).release()


@pytest.fixture
async def world(
    redis_server: RedisServer, unique: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    store = Store(redis_server.url)
    world = World(store, unique, monkeypatch)
    yield world
    world.over.set()
    await world.catalogue.aclose()
    await store.aclose()


async def hangs() -> list[Any]:
    await asyncio.Event().wait()
    return []


def raises() -> list[Any]:
    raise SystemExit(3)


@pytest.mark.parametrize("way", ["hangs", "blocks", "blocks in a generator", "raises"])
async def test_a_manager_that_does_not_answer_stalls_what_needs_it_and_nothing_else(
    world: World, way: str
) -> None:
    calls = []

    def blocks() -> list[Any]:
        calls.append(1)
        world.over.wait(30)
        return []

    def generator() -> Any:
        calls.append(1)
        world.over.wait(30)
        yield settings_of("t")

    ways: dict[str, Callable[[], Any]] = {
        "hangs": hangs, "blocks": blocks, "blocks in a generator": generator, "raises": raises,
    }  # fmt: skip
    world.slow.tasks.list_tasks = ways[way]  # type: ignore[method-assign]
    stuck = asyncio.create_task(world.hold(world.slow))
    began_s = time.monotonic()
    await asyncio.gather(*(world.hold(world.good) for _ in range(5)))
    assert time.monotonic() - began_s < 2.0, "others do not wait"
    with pytest.raises(ConfigError, match=world.slow.name) as told:
        await stuck
    assert ("SystemExit" if way == "raises" else "has not said anything") in str(told.value)
    for _ in range(3):
        with pytest.raises(ConfigError):
            await world.hold(world.slow)
    assert len(calls) <= 1, "it is not asked again while it owes an answer"


async def test_what_a_manager_said_last_counts_while_it_hangs(world: World) -> None:
    await world.hold(world.slow)
    world.slow.tasks.refresh = 0
    world.slow.tasks.list_tasks = hangs  # type: ignore[method-assign]
    began_s = time.monotonic()
    for _ in range(10):
        await world.hold(world.slow)
    assert time.monotonic() - began_s < 1.0


async def test_another_task_of_the_same_product_that_is_kept_does_not_wait(world: World) -> None:
    kept = Threshold.model_validate(settings_of("kept"))
    meta = PartitionKeys(world.scope(world.slow, "kept")).meta
    await world.store.redis.hset(meta, CONFIG_FIELD, revision_of(kept).pack())
    world.slow.tasks.list_tasks = hangs  # type: ignore[method-assign]
    stuck = asyncio.create_task(world.hold(world.slow))
    began_s = time.monotonic()
    await world.hold(world.slow, "kept")
    assert time.monotonic() - began_s < 2.0
    with pytest.raises(ConfigError):
        await stuck


async def test_a_pipeline_that_takes_long_to_make_stalls_its_task_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAKE_S", 0.3)
    made = []
    make = world.slow.make_pipeline

    def slowly(task: Any) -> Any:
        made.append(task.id)
        world.over.wait(30)
        return make(task)

    monkeypatch.setattr(world.slow, "make_pipeline", slowly)
    stuck = asyncio.create_task(world.hold(world.slow))
    began_s = time.monotonic()
    await world.hold(world.good)
    assert time.monotonic() - began_s < 2.0
    with pytest.raises(ConfigError, match="pipeline is not made within"):
        await stuck
    world.over.set()
    await world.hold(world.slow)  # the one that was under way is taken
    assert made == ["t"]


async def test_a_call_in_its_own_thread_is_made_once_and_raises_what_it_raised() -> None:
    thread = OwnThread[int]("test")
    go, calls = threading.Event(), []

    def call() -> int:
        calls.append(1)
        go.wait(10)
        raise KeyError("it")

    both = [asyncio.create_task(thread.call(call)) for _ in range(2)]
    await asyncio.sleep(0)
    both[0].cancel()
    go.set()
    with pytest.raises(KeyError):
        await both[1]
    assert calls == [1]
    assert await thread.call(lambda: 5) == 5
