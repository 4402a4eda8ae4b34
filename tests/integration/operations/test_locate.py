"""Where a message is: what is known is told, and nothing else."""

from __future__ import annotations

import pytest

from sinfer.nats.stream_messages import StreamMessages
from sinfer.operations.locate import Finder, Found, untraceable
from sinfer.operations.rebuild import discard, find_aside
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from tests.integration.operations.site import EXPECTED, Site, process

pytestmark = pytest.mark.integration


async def find(site: Site, seq: int) -> list[Found]:
    return await Finder(site.store, site.scope).find(seq)


async def ended_as(site: Site, seq: int) -> tuple[str, str]:
    message = await StreamMessages(site.client, site.name).get(seq)
    return await untraceable(site.store, site.scope, site.pipeline, seq, message)


async def test_what_is_gone_from_its_window_is_missing_and_named(site: Site) -> None:
    assert {place.state for seq in EXPECTED for place in await find(site, seq)} == {"closed"}
    await site.lose()
    for seq in EXPECTED:
        [place] = await find(site, seq)
        assert (place.state, bool(place.window)) == ("missing", True)
    assert await site.process() == set()
    [place] = await find(site, 3)
    assert place.state == "missing"
    await site.rebuild_all()
    [place] = await find(site, 3)
    assert place.state == "closed"


async def test_the_others_of_a_window_that_is_set_aside_wait_with_it(site: Site) -> None:
    [name, *_] = sorted(await site.redis.hkeys(site.keys.closed))
    await site.redis.lset(site.keys.segment(name.decode()), 0, b"garbage")
    await site.process()
    [aside] = await find_aside(site.store, [site.scope])
    there = [s for s in EXPECTED if [p.state for p in await find(site, s)] == ["set aside"]]
    assert len(there) + len(aside.damage.sequences) == aside.window.record.count


async def test_what_was_given_up_is_not_called_done(site: Site) -> None:
    await site.lose()
    await site.process()
    for aside in await find_aside(site.store, [site.scope]):
        await discard(site.store, aside, ledger=100)
    [place] = await find(site, 3)
    assert (place.state, bool(place.letter)) == ("dead", True)
    letters = DeadLetterStore(site.store)
    entries = [s.entry async for s in letters.of_partition(site.scope, LetterFilter())]
    await letters.purge(site.scope, entries)
    [place] = await find(site, 3)
    assert (place.state, place.sinks) == ("dead", [])
    assert "its dead letter was removed" in place.text


async def test_the_sinks_of_a_window_are_those_that_it_was_written_to(site: Site) -> None:
    await process(site, 1, sinks=("sql-0",))
    await process(site, 1, sinks=())
    places = [place for seq in EXPECTED for place in await find(site, seq)]
    done = {(tuple(place.sinks), place.text) for place in places if place.state == "done"}
    assert done == {(("sql-0",), ""), ((), "the window has no results")}


async def test_filtered_is_said_of_what_preprocess_filters(site: Site) -> None:
    state, text = await ended_as(site, 9)
    assert (state, "as the product's code is now" in text) == ("filtered", True)


async def test_what_the_stream_has_no_more_is_not_called_read(site: Site) -> None:
    await process(site, ledger=1)
    await site.client.jetstream().delete_msg(site.name, 3)
    state, text = await ended_as(site, 3)
    assert state == "unknown"
    assert "removed before that" in text


async def test_what_the_ledger_dropped_may_be_done_and_what_nothing_explains_is_missing(
    site: Site,
) -> None:
    names = await site.redis.hkeys(site.keys.closed)
    await process(site, len(names) - 1)
    await site.redis.delete(site.keys.closed, site.keys.ready)
    [seq, *_] = [seq for seq in sorted(EXPECTED) if not await find(site, seq)]
    state, _ = await ended_as(site, seq)
    assert state == "missing"
    await site.redis.delete(site.keys.ledger)
    state, text = await ended_as(site, seq)
    assert state == "unknown"
    assert "the ledger" in text
