"""Windows that lost messages are made whole from the stream, or say why they cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client

from sinfer.errors import LostPositionError, SourceError
from sinfer.operations.audit import audit
from sinfer.operations.rebuild import find_aside, rebuild
from sinfer.operations.status import standing
from sinfer.store.connection import Store
from sinfer.store.partition.writer import PartitionWriter
from tests.integration.operations.site import EXPECTED, WINDOWS, Keyed, Site

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("kind", WINDOWS)
async def test_lost_segments_are_read_from_the_stream_again(
    store: Store, nats_client: Client, unique: str, kind: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS[kind])
    await site.read(20)
    await site.lose()
    assert await site.process() == set()
    [found] = await audit(store, [site.scope])
    assert found.account.missing == len(EXPECTED)
    gone = {seq for damaged in found.damaged for seq in damaged.damage.sequences}
    assert gone == EXPECTED
    [task] = await standing(store, [site.scope])
    assert any("set aside" in trouble and "rebuild" in trouble for trouble in task.trouble)

    await site.rebuild_all()
    assert await site.process() == EXPECTED
    [found] = await audit(store, [site.scope])
    assert found.is_right, found.problems
    assert found.account.sunk == len(EXPECTED)


async def test_windows_are_rebuilt_even_where_nothing_tells_what_was_in_them(
    site: Site, store: Store
) -> None:
    await site.lose(site.keys.members)
    assert await site.process() == set()
    await site.rebuild_all()
    assert await site.process() == EXPECTED
    [found] = await audit(store, [site.scope])
    assert found.is_right, found.problems


async def test_what_the_stream_has_no_more_is_refused_and_stays_set_aside(
    site: Site, store: Store, nats_client: Client, unique: str
) -> None:
    await site.lose()
    await site.process()
    await nats_client.jetstream().delete_msg(unique, 3)
    refused = []
    for aside in await find_aside(store, [site.scope]):
        try:
            await rebuild(store, nats_client, aside, site.pipeline)
        except SourceError as error:
            refused.append((aside.damage.sequences, str(error)))
    [(sequences, text)] = refused
    assert 3 in sequences
    assert "messages no more (3)" in text
    assert await site.process() == EXPECTED - set(sequences)
    [found] = await audit(store, [site.scope])
    assert found.account.missing == 4


async def test_messages_of_another_stream_of_that_name_are_refused(
    site: Site, store: Store, nats_client: Client, unique: str
) -> None:
    await site.lose()
    await site.process()
    await nats_client.jetstream().delete_stream(unique)
    await nats_client.jetstream().add_stream(name=unique, subjects=[f"{unique}.>"])
    [aside, *_] = await find_aside(store, [site.scope])
    with pytest.raises(SourceError, match="was made anew"):
        await rebuild(store, nats_client, aside, site.pipeline)


async def test_code_that_would_put_a_message_elsewhere_is_refused(
    site: Site, store: Store, nats_client: Client
) -> None:
    await site.lose()
    await site.process()

    class Other(Keyed):
        def key(self, item: dict[str, Any]) -> str:
            return "c"

    [aside, *_] = await find_aside(store, [site.scope])
    with pytest.raises(SourceError, match="does not belong to window"):
        await rebuild(store, nats_client, aside, Other(site.pipeline.task))


@pytest.mark.parametrize("field", ["", "source"])
async def test_a_partition_whose_position_is_gone_is_not_read_from_the_start_into_its_windows(
    store: Store, nats_client: Client, unique: str, field: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    if field:
        await site.redis.hdel(site.keys.meta, field, "owner")
    else:
        await site.redis.delete(site.keys.meta)
    writer = PartitionWriter(store, site.scope, owner="next", lease_ms=60_000)
    await writer.acquire()
    with pytest.raises(LostPositionError, match="its position is gone"):
        await writer.load()
    [task] = await standing(store, [site.scope])
    assert any("position is gone" in trouble for trouble in task.trouble)
    [found] = await audit(store, [site.scope])
    assert field or not found.is_right
