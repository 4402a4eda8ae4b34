"""What a failover of Redis takes was not acknowledged, and is read again."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from nats.js.api import AckPolicy, RetentionPolicy

from sinfer.operations.audit import audit
from sinfer.operations.metrics import SinferCollector
from sinfer.operations.status import standing
from sinfer.store.connection import Store
from sinfer.store.durability import Durability
from sinfer.store.partition.gone_messages import GoneMessages
from sinfer.types.gone import Gone
from tests.integration.one_window import Site, Sites
from tests.support.accounts import read_account
from tests.support.durable_store import written
from tests.support.replicated_redis import ReplicatedRedis, asked
from tests.support.until import until

pytestmark = pytest.mark.integration

MODES = pytest.mark.parametrize(
    ("retention", "policy"),
    [
        (RetentionPolicy.WORK_QUEUE, None),
        (RetentionPolicy.LIMITS, AckPolicy.EXPLICIT),
        (RetentionPolicy.LIMITS, AckPolicy.ALL),
    ],
    ids=["work queue", "durable", "durable, ack policy all"],
)


def problems(site: Site) -> str:
    return " ".join(site.ingestor._ingestor.durability.problems)


@MODES
async def test_what_no_replica_has_is_not_acknowledged_and_survives_the_primary(
    sites: Sites, retention: RetentionPolicy, policy: AckPolicy | None
) -> None:
    with ReplicatedRedis() as redis:
        site = await sites(redis.url, retention, policy)
        await site.publish(0, 100)
        await until(site.is_acknowledged)

        redis.hold_back()
        await site.publish(100, 200)
        await until(lambda: site.has_fetched(200))
        assert redis.is_held_up()
        assert await site.unacknowledged() == 100

        redis.fail_over()
        await site.publish(200, 210)
        await until(lambda: site.has_fetched(210))
        await until(site.is_acknowledged)
        assert sorted(await site.content()) == list(range(210))
        assert (await read_account(site.store, site.scope)).missing == 0
        await site.aclose()


@pytest.mark.parametrize(
    ("retention", "policy", "failovers", "messages"),
    [
        (RetentionPolicy.WORK_QUEUE, None, 2, 1_000),
        pytest.param(RetentionPolicy.WORK_QUEUE, None, 10, 30_000, marks=pytest.mark.long),
        pytest.param(
            RetentionPolicy.LIMITS, AckPolicy.EXPLICIT, 10, 30_000, marks=pytest.mark.long
        ),
        pytest.param(RetentionPolicy.LIMITS, AckPolicy.ALL, 10, 30_000, marks=pytest.mark.long),
    ],
)
async def test_failovers_under_load_lose_and_double_nothing(
    sites: Sites,
    retention: RetentionPolicy,
    policy: AckPolicy | None,
    failovers: int,
    messages: int,
) -> None:
    with ReplicatedRedis() as redis:
        consumer = {"ack_wait": 4.0, "max_ack_pending": 65_536}
        site = await sites(redis.url, retention, policy, consumer=consumer, batch=100)
        await until(lambda: site.has_fetched(0))
        share = messages // failovers
        for first in range(0, messages, share):
            redis.lag(0.5)
            publishing = asyncio.create_task(site.publish(first, first + share))
            await until(partial(has_fetched_at_least, site, first + share // 2))
            await asyncio.to_thread(redis.fail_over)
            await publishing
        await until(lambda: site.has_fetched(messages))
        await until(site.is_acknowledged)
        assert sorted(await site.content()) == list(range(messages))
        [found] = await audit(site.store, [site.scope])
        assert found.is_right
        await site.aclose()


async def has_fetched_at_least(site: Site, messages: int) -> bool:
    return (await read_account(site.store, site.scope)).fetched >= messages


async def test_replicas_without_a_file_are_asked_for_what_they_have_in_memory(
    sites: Sites,
) -> None:
    with ReplicatedRedis({"appendonly": "no"}) as redis:
        site = await sites(redis.url)
        await site.publish(0, 50)
        await until(site.is_acknowledged)
        redis.hold_back()
        await site.publish(50, 100)
        await until(lambda: site.has_fetched(100))
        await until(lambda: "nothing is acknowledged meanwhile" in problems(site))
        assert await site.unacknowledged() == 50
        redis.go_on()
        await until(site.is_acknowledged)
        await until(lambda: not problems(site))
        await site.aclose()


async def test_a_primary_that_is_cut_off_with_its_clients_acknowledges_nothing(
    sites: Sites,
) -> None:
    with ReplicatedRedis() as redis:
        site = await sites(redis.url)
        await site.publish(0, 50)
        await until(site.is_acknowledged)
        redis.hold_back()
        await site.publish(50, 100)
        await until(lambda: site.has_fetched(100))
        redis.promote()  # and the clients are led there, while the old one has all
        await site.publish(100, 110)
        await until(lambda: site.has_fetched(110))
        assert sorted(await site.content()) == list(range(110))
        await site.aclose()


@pytest.mark.parametrize("policy", [AckPolicy.EXPLICIT, AckPolicy.ALL])
async def test_what_a_failover_takes_though_it_was_acknowledged_is_read_again(
    sites: Sites, policy: AckPolicy
) -> None:
    with ReplicatedRedis() as redis:
        site = await sites(redis.url, RetentionPolicy.LIMITS, policy, replicas=0)
        await lose_the_second_half(redis, site)
        await until(lambda: site.has_fetched(210))
        await until(site.is_acknowledged)
        content = await site.content()
        assert content == list(range(210)), "in the order of the stream"
        [found] = await audit(site.store, [site.scope])
        assert found.is_right
        await site.aclose()


async def test_what_is_gone_for_good_counts_as_missing_until_it_is_written_off(
    sites: Sites,
) -> None:
    with ReplicatedRedis() as redis:
        site = await sites(redis.url, replicas=0)
        await lose_the_second_half(redis, site)
        await until(lambda: site.has_fetched(110))
        assert await site.content() == [*range(100), *range(200, 210)]
        [found] = await audit(site.store, [site.scope])
        assert (found.gone, found.missing, found.is_right) == ([Gone(101, 200, 100)], 100, False)
        assert "100 messages are gone" in found.problems[0]
        assert "101-200" in found.problems[0]
        [task] = await standing(site.store, [site.scope])
        [line] = [text for text in task.trouble if "are gone" in text]
        assert "101-200" in line
        assert f"sinfer write-off --product {site.name} --task {site.name}" in line
        values = await asyncio.to_thread(metrics_of, redis.url, site.name)
        assert (values["sinfer_gone"], values["sinfer_messages_missing"]) == (100, 100)

        assert await GoneMessages(site.store, site.scope).write_off() == [Gone(101, 200, 100)]
        [found] = await audit(site.store, [site.scope])
        assert (found.gone, found.missing, found.written_off) == ([], 0, 100)
        assert found.is_right
        assert await GoneMessages(site.store, site.scope).write_off() == []
        await site.aclose()


async def lose_the_second_half(redis: ReplicatedRedis, site: Site) -> None:
    """200 messages are acknowledged, of which a replica has 100 when it takes over."""
    await site.publish(0, 100)
    await until(lambda: site.has_fetched(100))
    await until(site.is_acknowledged)
    await until(lambda: not redis.is_held_up())
    redis.hold_back()
    await site.publish(100, 200)
    await until(lambda: site.has_fetched(200))
    await until(site.is_acknowledged)
    redis.fail_over()
    await site.publish(200, 210)


def metrics_of(url: str, task: str) -> dict[str, float]:
    """What Prometheus is told of a task."""
    collector = SinferCollector(lambda: Store(url))
    return {
        sample.name: sample.value
        for family in collector.collect()
        for sample in family.samples
        if sample.labels.get("task") == task
    }


async def test_replication_that_goes_on_lets_acknowledgements_go_on(sites: Sites) -> None:
    with ReplicatedRedis() as redis:
        site = await sites(redis.url)
        redis.hold_back()
        await site.publish(0, 50)
        await until(lambda: site.has_fetched(50))
        assert await site.unacknowledged() == 50
        redis.go_on()
        await until(site.is_acknowledged)
        await site.aclose()


async def test_a_start_that_is_not_kept_is_no_start(sites: Sites) -> None:
    """``deliver: new`` begins where the stream ends at that moment: nobody could find it again."""
    with ReplicatedRedis() as redis:
        redis.hold_back()
        site = await sites(redis.url, RetentionPolicy.LIMITS, deliver="new")
        await until(lambda: "nothing is acknowledged meanwhile" in problems(site))
        await site.publish(0, 10)
        assert await site.has_fetched(0)
        redis.go_on()
        await until(lambda: site.has_fetched(10))
        await site.aclose()


async def test_without_replicas_nothing_is_asked_of_them(sites: Sites) -> None:
    with ReplicatedRedis() as redis:
        asked(redis.replica, "REPLICAOF", "NO", "ONE")
        store = Store(redis.primary.url)
        durability = Durability(store)
        await durability.try_out()
        await written(durability)
        assert "cmdstat_wait" not in await store.redis.info("commandstats")
        assert not durability.problems
        await store.aclose()


async def test_as_many_replicas_are_waited_for_as_the_setting_says(sites: Sites) -> None:
    with ReplicatedRedis() as redis:
        site = await sites(redis.url, replicas=2)
        await site.publish(0, 10)
        await until(lambda: site.has_fetched(10))
        await until(lambda: "1 follow, and fewer than 2" in problems(site))
        assert await site.unacknowledged() == 10
        await site.aclose()


@pytest.mark.parametrize("log", ["yes", "no"])
async def test_a_server_without_waitaof_is_asked_for_its_replicas_alone(log: str) -> None:
    with ReplicatedRedis(appendonly=log) as redis:
        asked(redis.primary, "ACL", "SETUSER", "old", "on", "nopass", "~*", "+@all", "-waitaof")
        store = Store(redis.url.replace("://", "://old:x@"))
        durability = Durability(store)
        await durability.try_out()
        assert durability.confirms
        await written(durability)
        assert (await store.redis.info("commandstats"))["cmdstat_wait"]["calls"] > 0
        await store.aclose()
