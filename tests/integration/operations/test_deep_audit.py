"""The deep audit: what is nowhere, or twice, is named; what cannot be known is said."""

from __future__ import annotations

from typing import Any

import pytest
from nats.aio.client import Client

from sinfer.operations.deep_audit import DeepAudit, DeepAudited
from sinfer.source.checkpoint import Checkpoint, pack_checkpoint
from sinfer.store.connection import Store
from sinfer.store.history.ledger import pack_entry
from sinfer.store.work.claim import Completion
from sinfer.worker.attempts import Timings
from sinfer.worker.process import ledger_entry
from tests.integration.operations.site import EXPECTED, WINDOWS, Site, process

pytestmark = pytest.mark.integration


async def deep(site: Site, **options: Any) -> DeepAudited:
    return await DeepAudit(site.store, site.client, site.scope, site.pipeline, **options).run()


@pytest.mark.parametrize("kind", WINDOWS)
async def test_a_task_that_is_right_has_no_findings(
    store: Store, nats_client: Client, unique: str, kind: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS[kind])
    await site.read(20)
    found = await deep(site)
    assert (found.findings, found.unknown) == ([], [])
    assert found.filtered == 3
    await process(site, 2)
    assert (await deep(site)).findings == []
    await process(site)
    found = await deep(site)
    assert (found.findings, found.unknown, found.messages) == ([], [], 21)


async def test_messages_of_a_window_that_vanished_are_named(site: Site) -> None:
    names = await site.redis.hkeys(site.keys.closed)
    await process(site, len(names) - 1)
    await site.redis.delete(site.keys.closed, site.keys.ready)
    found = await deep(site)
    missing = {finding.seq for finding in found.findings}
    assert missing
    assert missing < EXPECTED
    assert {(f.kind, f.where) for f in found.findings} == {("missing", "messages")}


async def test_lost_segments_are_named_before_any_worker_sees_them(
    store: Store, nats_client: Client, unique: str
) -> None:
    site = Site(store, nats_client, unique, WINDOWS["sliding"])
    await site.read(20)
    await site.lose()
    found = await deep(site)
    assert {finding.seq for finding in found.findings} == EXPECTED
    assert all(finding.window for finding in found.findings)


async def test_a_message_of_two_windows_is_named_with_the_second(site: Site) -> None:
    claims, _ = await site.claims.claim(1, lease_ms=60_000)
    [(claim, messages)] = await site.claims.whole(claims)
    other = ledger_entry(claim, messages[:2], "m", 0, Timings())
    twice = type(other)(**{n: getattr(other, n) for n in other.__struct_fields__} | {"window": "w"})
    completion = Completion(claim, {"sunk": 4, "windows": 1}, (), pack_entry(twice), 100)
    await site.claims.complete([completion])
    await site.redis.xadd(
        site.keys.ledger, {"entry": pack_entry(ledger_entry(claim, messages, "m", 0, Timings()))}
    )
    found = await deep(site)
    doubled = [finding for finding in found.findings if finding.kind == "doubled"]
    assert {finding.seq for finding in doubled} == {m.stream_seq for m in messages[:2]}


async def test_what_the_ledger_no_longer_knows_is_said_and_not_guessed(site: Site) -> None:
    await process(site, ledger=1)
    found = await deep(site)
    assert found.findings == []
    assert any("limits.ledger" in text for text in found.unknown)
    assert any("older than what the ledger knows" in text for text in found.unknown)


async def test_what_the_stream_lost_is_said(store: Store, nats_client: Client, unique: str) -> None:
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    await process(site)
    await nats_client.jetstream().delete_msg(unique, 5)
    found = await deep(site)
    assert found.findings == []
    assert any("1 messages behind its first were deleted" in text for text in found.unknown)
    await nats_client.jetstream().purge_stream(unique, keep=3)
    found = await deep(site)
    assert found.findings == []
    assert any("no messages before sequence 19" in text for text in found.unknown)


async def test_a_dead_letter_that_vanished_is_named(
    site: Site, nats_client: Client, unique: str
) -> None:
    await nats_client.jetstream().publish(f"{unique}.in", b"no json")
    state = Checkpoint.decode(await site.redis.hget(site.keys.meta, "source"))
    state = Checkpoint(state.stream_created, 22)
    await site.redis.hset(site.keys.meta, "source", pack_checkpoint(state))
    found = await deep(site)
    [finding] = found.findings
    assert (finding.seq, finding.kind) == (22, "missing")
    assert "its dead letter is gone" in finding.text
