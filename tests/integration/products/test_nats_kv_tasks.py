"""Tasks in a key-value bucket: they come, change and go, and outlive the server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from nats.aio.client import Client
from nats.js.kv import KeyValue

from sinfer import NatsKvTaskManager, UnavailableError
from sinfer.embedded.servers import NatsServer
from sinfer.products.product import Product
from tests.support.task_settings import Threshold, product_of, settings_of
from tests.support.until import until


def value(**changes: Any) -> bytes:
    settings = settings_of("-", **changes)
    del settings["id"]
    return json.dumps(settings).encode()


@pytest.fixture
async def bucket(nats_client: Client, unique: str) -> KeyValue:
    return await nats_client.jetstream().create_key_value(bucket=unique)


@pytest.fixture
async def product(nats_server: NatsServer, unique: str) -> AsyncIterator[Product]:
    manager = NatsKvTaskManager[Threshold](unique, servers=[nats_server.url])
    yield product_of(manager)
    await manager.aclose()


async def thresholds(product: Product) -> dict[str, float]:
    tasks = (await product.list_tasks()).tasks
    return {name: task.threshold for name, task in tasks.items()}  # type: ignore[attr-defined]


async def test_tasks_follow_the_keys(bucket: KeyValue, product: Product) -> None:
    assert await thresholds(product) == {}
    await bucket.put("a", value(threshold=0.1))
    await bucket.put("b", yaml.safe_dump(settings_of("b", threshold=0.2)).encode())
    assert await thresholds(product) == {"a": 0.1, "b": 0.2}
    await bucket.put("a", value(threshold=0.3))
    await bucket.put("a", value(threshold=0.4))
    await bucket.delete("b")
    await bucket.put("c", value())
    assert await thresholds(product) == {"a": 0.4, "c": 0.5}
    await bucket.purge("c")
    assert await thresholds(product) == {"a": 0.4}


async def test_more_keys_than_one_request_brings(bucket: KeyValue, product: Product) -> None:
    for number in range(1100):
        await bucket.put(f"t{number}", value())
    assert len(await thresholds(product)) == 1100


async def test_a_broken_value_is_reported_by_its_key(bucket: KeyValue, product: Product) -> None:
    await bucket.put("a", value())
    await bucket.put("b", b"{")
    await bucket.put("c", json.dumps(settings_of("other")).encode())
    await bucket.put("d", value(threshold="high"))
    found = await product.list_tasks()
    assert found.tasks.keys() == {"a"}
    assert found.problems.keys() == {"b", "c", "d"}
    assert "threshold" in found.problems["d"]
    assert found.complete


async def test_a_bucket_made_anew_is_read_anew(
    nats_client: Client, bucket: KeyValue, product: Product, unique: str
) -> None:
    await bucket.put("a", value())
    await bucket.put("b", value())
    assert len(await thresholds(product)) == 2
    jetstream = nats_client.jetstream()
    await jetstream.delete_key_value(unique)
    with pytest.raises(UnavailableError, match="does not exist"):
        await product.list_tasks()
    bucket = await jetstream.create_key_value(bucket=unique)
    for name in ("c", "d", "e"):
        await bucket.put(name, value())
    assert (await thresholds(product)).keys() == {"c", "d", "e"}


async def test_tasks_are_found_again_after_the_server_was_killed(unique: str) -> None:
    with NatsServer() as server:
        client = Client()
        await client.connect(server.url, max_reconnect_attempts=-1, error_cb=_ignore)
        bucket = await client.jetstream().create_key_value(bucket=unique)
        await bucket.put("a", value())
        manager = NatsKvTaskManager[Threshold](unique, servers=[server.url])
        product = product_of(manager)
        assert (await thresholds(product)).keys() == {"a"}
        server.process.kill()
        with pytest.raises(UnavailableError):
            await product.list_tasks()
        server.start()

        async def is_back() -> bool:
            with suppress(UnavailableError):
                assert (await thresholds(product)).keys() == {"a"}
                return True
            return False

        await until(is_back)
        await manager.aclose()
        await client.close()


async def _ignore(error: Exception) -> None:
    """The server is unavailable on purpose."""
