"""`sinfer check` says how many replicas of Redis are in step, and whether anybody waits for it."""

from __future__ import annotations

import pytest

from sinfer.operations.preflight.servers import check_store
from sinfer.store.connection import Store
from tests.support.replicated_redis import ReplicatedRedis
from tests.support.until import until

pytestmark = pytest.mark.integration


async def told(url: str, replicas: int | None = None) -> tuple[str, str]:
    """What it says of the replicas; nothing where it says nothing."""
    store = Store(url, replicas=replicas)
    found = [finding async for finding in check_store(store) if finding.what == "redis replicas"]
    await store.aclose()
    assert len(found) <= 1
    return (found[0].verdict, found[0].text) if found else ("", "")


async def test_replicas_in_step_and_those_that_are_not_are_told(store: Store) -> None:
    assert await told(store.shown_url) == ("", "")
    verdict, text = await told(store.shown_url, replicas=1)
    assert (verdict, text.partition(",")[0]) == ("warning", "0 of 0 replicas are in step")
    with ReplicatedRedis() as redis:
        assert await told(redis.url) == (
            "ok", "1 of 1 replicas are in step; what is acknowledged is on 1 of them",
        )  # fmt: skip
        verdict, text = await told(redis.url, replicas=0)
        assert verdict == "warning"
        assert "a failover may take what they do not have yet" in text
        primary = Store(redis.url)
        await primary.redis.config_set("min-replicas-to-write", 1)
        assert await told(redis.url, replicas=0) == (
            "ok", "1 of 1 replicas are in step; writes need them",
        )  # fmt: skip
        await primary.aclose()
        redis.hold_back()

        async def is_behind() -> bool:
            return (await told(redis.url))[1].startswith("0 of 1 replicas are in step, and 1")

        await until(is_behind, every_s=0.2)
