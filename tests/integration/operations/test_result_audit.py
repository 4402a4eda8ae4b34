"""The deep audit asks sinks: each missing, doubled or foreign result is named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from sinfer import InferTaskConfig, Sink, WindowResults
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.errors import SinkUnavailableError
from sinfer.nats.stream_messages import StreamMessages
from sinfer.operations.deep_audit import DeepAudited
from sinfer.operations.result_audit import ResultAudit
from sinfer.sinks.base import SinkConfig
from sinfer.store.history.ledger import read_ledger
from sinfer.types.result import ResultRow
from sinfer.worker.result_keys import names_of
from tests.integration.operations.site import Site, process
from tests.support.task_settings import settings_of

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(site: Site) -> Site:
    await process(site, sinks=("sql", "a", "b", "redis", "silent", "away", "odd", "ends", "lies"))
    return site


async def results(site: Site, sink: str) -> list[WindowResults]:
    """The results of all finished windows, on their way to a sink."""
    found = []
    async for finished in read_ledger(site.store, site.scope):
        entry = finished.entry
        named = names_of(site.pipeline, site.scope, entry, range(entry.count)).for_sink(sink)
        rows = [ResultRow(row.ordinal, json.dumps(row.ordinal).encode()) for row in named]
        found.append(WindowResults(**{**_fields(named), "rows": rows}))
    return found


def _fields(results: WindowResults) -> dict[str, Any]:
    return {name: getattr(results, name) for name in WindowResults.__dataclass_fields__}


async def audit(site: Site, **sinks: Sink) -> DeepAudited:
    found = DeepAudited(site.scope)
    messages = StreamMessages(site.client, site.name)
    await ResultAudit(
        site.store, messages, site.scope, site.pipeline, sinks, found, lambda count: None
    ).run()
    return found


async def test_rows_that_a_table_misses_or_has_beyond_are_named(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "results.sqlite"
    sink = make(type="sql", url=f"sqlite:///{path}", table="results")
    assert len((await audit(site, sql=sink)).findings) == 17  # no table: nothing is there
    windows = await results(site, "sql")
    for window in windows:
        await sink.write(window)
    found = await audit(site, sql=sink)
    assert (found.findings, found.sinks) == ([], {"sql": "asked about 17 results"})
    gone, beyond = [window for window in windows if len(window) > 1][:2]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM results WHERE base_id = ? AND ordinal = 1", (gone.base_id,))
        connection.execute(
            "UPDATE results SET ordinal = 77 WHERE base_id = ? AND ordinal = 0", (beyond.base_id,)
        )
    found = await audit(site, sql=sink)
    named = {(f.kind, f.window, f.ordinal) for f in found.findings}
    assert named == {
        ("missing", gone.window_id, 1),
        ("missing", beyond.window_id, 0),
        ("foreign", beyond.window_id, 77),
    }
    assert all(finding.seq for finding in found.findings if finding.kind == "missing")
    await sink.aclose()


async def test_results_that_a_stream_misses_or_has_twice_are_named(
    site: Site, nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    jetstream = nats_client.jetstream()
    await jetstream.add_stream(name=f"{unique}-out", subjects=[f"{unique}-out.>"])
    sinks = [
        make(type="jetstream", subject=f"{unique}-out.{name}", servers=[nats_server.url])
        for name in ("a", "b")
    ]
    windows = await results(site, "a")
    for window in windows:
        await sinks[0].write(window)
    found = await audit(site, a=sinks[0])
    assert (found.findings, found.sinks) == ([], {"a": "asked about 17 results"})
    # The second sink has nothing: what the first has in the same stream is not its own.
    assert len((await audit(site, b=sinks[1])).findings) == 17

    message = await jetstream.get_msg(f"{unique}-out", 3)
    await jetstream.delete_msg(f"{unique}-out", 3)
    await jetstream.add_stream(name=f"{unique}-x", subjects=[f"{unique}-x"])
    stored = await jetstream.get_msg(f"{unique}-out", 4)
    headers = dict(stored.headers or {})
    key = headers.pop("Nats-Msg-Id")
    await jetstream.update_stream(
        name=f"{unique}-out", subjects=[f"{unique}-out.>"], duplicate_window=0.1
    )
    again = 0
    while again < 18:  # until the stream has forgotten the first
        ack = await jetstream.publish(
            stored.subject or "", stored.data or b"", headers={**headers, "Nats-Msg-Id": key}
        )
        again = 0 if ack.duplicate else ack.seq
    other = make(type="jetstream", subject=f"{unique}-out.a", servers=[nats_server.url])
    found = await audit(site, a=other)
    assert {finding.kind for finding in found.findings} == {"missing", "doubled"}
    missing = (message.headers or {})["Nats-Msg-Id"]
    assert [f.text for f in found.findings if f.kind == "missing"] == [
        f"the result {missing} is not there"
    ]
    for sink in (*sinks, other):
        await sink.aclose()


async def test_entries_of_a_redis_stream_are_looked_up(
    site: Site, redis_server: RedisServer, unique: str
) -> None:
    sink = make(type="redis_stream", url=redis_server.url, stream=f"{unique}-results")
    for window in await results(site, "redis"):
        await sink.write(window)
    assert (await audit(site, redis=sink)).findings == []
    [(entry, _), *_] = await site.redis.xrange(f"{unique}-results", count=1)
    await site.redis.xdel(f"{unique}-results", entry)
    other = make(type="redis_stream", url=redis_server.url, stream=f"{unique}-results")
    [finding] = (await audit(site, redis=other)).findings
    assert finding.kind == "missing"
    capped = make(type="redis_stream", url=redis_server.url, stream="x", maxlen=10)
    found = await audit(site, redis=capped)
    assert "not asked" in found.sinks["redis"]
    for one in (sink, other, capped):
        await one.aclose()


class Silent(Sink):
    async def write(self, results: WindowResults) -> None:
        """Nowhere."""


class Away(Silent):
    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        raise SinkUnavailableError("it is closed on Sundays")


class Odd(Silent):
    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        raise ZeroDivisionError


class Ends(Silent):
    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        raise SystemExit(3)


class Lies(Silent):
    async def stored(self, windows: Sequence[WindowResults]) -> Any:
        return self.config.name


async def test_sinks_that_cannot_tell_are_said_not_to_have_been_asked(site: Site) -> None:
    config = SinkConfig(type="x")
    odd = {"odd": Odd(config), "ends": Ends(config), "lies": Lies(config)}
    found = await audit(site, silent=Silent(config), away=Away(config), **odd)
    assert found.findings == []
    assert "not asked" in found.sinks["silent"]
    assert "closed on Sundays" in found.sinks["away"]
    assert "ZeroDivisionError" in found.sinks["odd"]
    assert "SystemExit" in found.sinks["ends"]
    assert "returned something else" in found.sinks["lies"]


async def test_a_sink_that_the_task_got_later_is_not_asked_about_older_results(
    site: Site, tmp_path: Path
) -> None:
    sink = make(type="sql", url=f"sqlite:///{tmp_path}/new.sqlite", table="results")
    found = await audit(site, new=sink)
    assert (found.findings, found.sinks) == ([], {"new": "asked about 0 results"})
    await sink.aclose()


def make(**config: Any) -> Sink:
    """A sink, as a task's settings name it."""
    task = InferTaskConfig.model_validate(settings_of("t", sinks=[config]))
    made: Sink = Sink.make(task.sinks[0], "the sink")
    return made
