"""JetStream of another domain, behind a leaf node, and of another account, which is imported."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from nats.aio.client import Client
from nats.js.api import StreamConfig

from sinfer.config.jetstream_place import NatsPlace
from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import NatsServer
from sinfer.errors import SinkUnavailableError, SourceError, UnavailableError
from sinfer.local.publish import publish
from sinfer.local.streams import make_streams
from sinfer.nats.connection import connect
from sinfer.nats.stream_messages import StreamMessages
from sinfer.nats.whereabouts import errors_told
from sinfer.operations.status import PartitionStanding, measure_lag
from sinfer.products.nats_kv_tasks import NatsKvTaskManager
from sinfer.sinks import JetStreamSink
from sinfer.source.attachment import Attachment
from sinfer.source.config import JetStreamSource
from sinfer.source.source_partition import SourcePartition
from sinfer.types.message import Message
from sinfer.types.result import Confirmed
from sinfer.windows.ids import Scope
from tests.support.reading import acknowledge
from tests.support.until import until
from tests.support.window_results import window_results

pytestmark = pytest.mark.integration

ACCOUNTS = """
accounts {
  PLANT {
    jetstream: enabled, users: [{user: plant, password: p}]
    exports: [
      {service: "$JS.API.>", response_type: stream}, {service: "$JS.ACK.>"}, {service: "*.out.>"}
      {service: "*.dead"}
    ]
  }
  ML {
    jetstream: enabled, users: [{user: ml, password: p}]
    imports: [
      {service: {account: PLANT, subject: "$JS.API.>"}, to: "JS.plant.API.>"}
      {service: {account: PLANT, subject: "$JS.ACK.>"}}
      {service: {account: PLANT, subject: "*.out.>"}, to: "plant.*.out.>"}
    ]
  }
  DEAF {
    users: [{user: deaf, password: p}]
    imports: [{service: {account: PLANT, subject: "$JS.API.>"}, to: "JS.plant.API.>"}]
  }
  NONE { users: [{user: none, password: p}] }
}
"""


class Other(NamedTuple):
    """A JetStream that is not that of the servers which are connected to.

    Attributes:
        place: how it is reached.
        client: a connection to it by that way.
        owner: a connection to where it is.
        subjects: what stands before the subjects of its streams here.
    """

    place: NatsPlace
    client: Client
    owner: Client
    subjects: str = ""


@pytest.fixture(scope="module")
def domains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[NatsServer, NatsServer]]:
    """A hub, and a leaf node of it, each with a JetStream domain of its name."""
    port = free_port()

    def server(name: str, leafnodes: str) -> NatsServer:
        store = tmp_path_factory.mktemp(name)
        block = f'jetstream {{ domain: {name}, store_dir: "{store}" }}'
        return NatsServer(config=f"server_name: {name}\n{block}\nleafnodes {{ {leafnodes} }}")

    with (
        server("hub", f'listen: "127.0.0.1:{port}"') as hub,
        server("leaf", f'remotes: [{{ url: "nats-leaf://127.0.0.1:{port}" }}]') as leaf,
    ):
        yield hub, leaf


@pytest.fixture(scope="module")
def accounts() -> Iterator[NatsServer]:
    with NatsServer(config=ACCOUNTS) as server:
        yield server


def url(server: NatsServer, user: str) -> str:
    return server.url.replace("//", f"//{user}:p@")


async def answers(client: Client) -> None:
    """Wait until JetStream does, as after a leaf node has connected."""

    async def does_answer() -> bool:
        with suppress(Exception):
            await client.jetstream(timeout=1.0).account_info()
            return True
        return False

    await until(does_answer, "an answer")


@pytest.fixture(params=["domain", "import"])
async def other(request: pytest.FixtureRequest) -> AsyncIterator[Other]:
    if request.param == "domain":
        hub, leaf = request.getfixturevalue("domains")
        place, home, subjects = NatsPlace((hub.url,), "leaf"), NatsPlace((leaf.url,)), ""
    else:
        server = request.getfixturevalue("accounts")
        place = NatsPlace((url(server, "ml"),), prefix="JS.plant.API")
        home, subjects = NatsPlace((url(server, "plant"),)), "plant."
    client, owner = await connect(place, name="test"), await connect(home, name="owner")
    await answers(client)
    yield Other(place, client, owner, subjects)
    await client.close()
    await owner.close()


def where(other: Other) -> dict[str, Any]:
    """The fields of a configuration that name it."""
    place = other.place
    return {"servers": place.servers, "domain": place.domain, "api_prefix": place.prefix}


async def add_stream(other: Other, name: str, **more: Any) -> None:
    subjects = [f"{name}.in.>", f"{name}.out.>"]
    await other.owner.jetstream().add_stream(StreamConfig(name=name, subjects=subjects, **more))
    await other.client.jetstream().account_info()  # comes behind the news of these subjects


async def fill(other: Other, name: str, count: int = 5) -> None:
    for number in range(count):
        await other.owner.jetstream().publish(f"{name}.in.a", b"%d" % number)


@pytest.mark.parametrize("retention", ["limits", "workqueue"])
@pytest.mark.parametrize("durable", [None, "d"])
@pytest.mark.parametrize("ack", ["stored", "done"])
async def test_a_stream_is_read_and_acknowledged(
    other: Other, unique: str, retention: str, durable: str | None, ack: Any
) -> None:
    await add_stream(other, unique, retention=retention)
    await fill(other, unique)
    source = JetStreamSource(
        stream=unique, subject=f"{unique}.in.>", durable=durable, ack=ack, **where(other)
    )
    assert source.place == other.place
    reader = await Attachment.open(other.client, SourcePartition(source, f"{unique}.in.>", unique))
    found: list[Message] = []
    async with asyncio.timeout(20):
        while len(found) < 5:
            batch = await reader.next_batch(100, 1.0)
            if batch is not None:
                found += batch.messages
                await acknowledge(batch)
                await reader.source.done([(1, 5)])
    assert [message.data for message in found] == [b"0", b"1", b"2", b"3", b"4"]
    assert [message.stream_seq for message in found] == [1, 2, 3, 4, 5]
    assert all(message.timestamp_ns > 1e18 for message in found)
    jetstream = other.owner.jetstream()

    async def are_acknowledged() -> bool:
        [info] = await jetstream.consumers_info(unique)
        assert info.ack_floor is not None
        return info.ack_floor.stream_seq == 5

    if reader.source.terms.acknowledges:
        await until(are_acknowledged, "all to be acknowledged")
    await reader.aclose()


async def test_results_are_written_once_and_found_again(other: Other, unique: str) -> None:
    await add_stream(other, unique)
    subject = f"{other.subjects}{unique}.out.a"
    sink = JetStreamSink(JetStreamSink.Config(subject=subject, stream=unique, **where(other)))
    try:
        assert await sink.write(window_results(3)) == Confirmed(3, 0, 0)
        assert await sink.write(window_results(3)) == Confirmed(0, 3, 0)
        assert await sink.stored([window_results(3)]) == [{0: 1, 1: 1, 2: 1}]
    finally:
        await sink.aclose()
    assert (await other.owner.jetstream().stream_info(unique)).state.messages == 3


async def test_single_messages_and_the_backlog_are_looked_up(other: Other, unique: str) -> None:
    await add_stream(other, unique)
    await fill(other, unique)
    messages = StreamMessages(other.client, unique)
    found = await messages.get(3)
    assert found is not None
    assert found.data == b"2"
    standing = PartitionStanding(Scope("p", "t", f"{unique}.in.>"))
    standing.position = 2
    await measure_lag(other.client, unique, standing)
    assert standing.lag == 3


async def test_tasks_are_listed_from_a_bucket(other: Other, unique: str) -> None:
    bucket = await other.owner.jetstream().create_key_value(bucket=unique)
    await bucket.put("t1", b'{"a": 1}')
    manager: NatsKvTaskManager[Any] = NatsKvTaskManager(
        unique, servers=other.place.servers, domain=other.place.domain,
        api_prefix=other.place.prefix,
    )  # fmt: skip
    assert list(await manager.list_tasks()) == [{"a": 1, "id": "t1"}]
    await bucket.put("t2", b"{}")
    assert len(list(await manager.list_tasks())) == 2
    await manager.aclose()


async def test_messages_are_published(other: Other, unique: str) -> None:
    await add_stream(other, unique)
    subject = f"{other.subjects}{unique}.out.a"
    assert await publish(other.client, [Message(b"x", subject)] * 3) == 3
    assert (await other.owner.jetstream().stream_info(unique)).state.messages == 3


async def test_only_the_domain_that_is_named_may_acknowledge(
    domains: tuple[NatsServer, NatsServer], unique: str
) -> None:
    """What both cover, both store; and whoever is nearer answers first."""
    hub, leaf = domains
    here, there = await connect([hub.url], name="t"), await connect([leaf.url], name="t")
    try:
        await add_stream(Other(NatsPlace(()), here, here), unique)
        await answers(there)
        sink = JetStreamSink(
            JetStreamSink.Config(
                subject=f"{unique}.out.a", servers=[hub.url], domain="leaf", timeout="1s"
            )
        )
        with pytest.raises(SinkUnavailableError) as error:
            await sink.write(window_results(1))
        assert f"in JetStream domain 'leaf' at {hub.url}, or it has" in str(error.value)
        await add_stream(Other(NatsPlace(()), there, there), unique)
        failures: list[str] = []  # until the hub knows that the leaf wants it, too

        async def has_come() -> bool:
            try:
                await sink.write(window_results(1))
            except SinkUnavailableError as late:
                failures.append(str(late))
            return (await there.jetstream().stream_info(unique)).state.messages > 0

        await until(has_come)
        assert all("of domain 'hub' took some, correct 'domain'" in text for text in failures)
        await sink.write(window_results(1))
        assert (await there.jetstream().stream_info(unique)).state.messages == 1
        await sink.aclose()
    finally:
        await here.close()
        await there.close()


async def told(place: NatsPlace, **source: Any) -> str:
    """What is said of a source that cannot be read."""
    client = await connect(place, name="test")
    try:
        with pytest.raises((SourceError, UnavailableError)) as error:
            await Attachment.open(
                client, SourcePartition(JetStreamSource(stream="S", **source), ">", "t")
            )
    finally:
        await client.close()
    return str(error.value)


async def test_what_is_not_there_is_told_with_where_it_was_looked_for(
    domains: tuple[NatsServer, NatsServer], accounts: NatsServer
) -> None:
    hub, leaf = domains
    missing = "stream 'S' does not exist in JetStream"
    create = "create it or correct source.stream"
    name = "set source.domain or source.api_prefix"
    client = await connect(NatsPlace((hub.url,), "leaf"), name="test")
    await answers(client)
    await client.close()
    text = await told(NatsPlace((hub.url,)))
    assert text.startswith(f"{missing} at {hub.url} (domain 'hub'); {create}")
    assert text.endswith(name)
    text = await told(NatsPlace((hub.url,), "leaf"))
    assert text == f"{missing} domain 'leaf' at {hub.url}; {create}; or correct source.domain"
    text = await told(NatsPlace((leaf.url,), "nowhere"))
    assert text.startswith(f"JetStream domain 'nowhere' at {leaf.url} does not answer; correct")
    text = await told(NatsPlace((url(accounts, "ml"),)))
    assert text.startswith(f"{missing} at {accounts.url} (account 'ML'); {create}")
    assert text.endswith(name)
    text = await told(NatsPlace((url(accounts, "ml"),), prefix="JS.plant.API"))
    assert f"under the API prefix 'JS.plant.API' at {accounts.url} (account 'ML')" in text
    text = await told(NatsPlace((url(accounts, "ml"),), prefix="JS.other"))
    assert "does not answer; correct source.api_prefix, or import the API" in text


async def test_acknowledgements_that_do_not_arrive_are_told_before_anything_is_read(
    accounts: NatsServer, unique: str
) -> None:
    owner = await connect([url(accounts, "plant")], name="test")
    await owner.jetstream().add_stream(name=unique, subjects=[f"{unique}.in.>"])
    place = NatsPlace((url(accounts, "deaf"),), prefix="JS.plant.API")
    client = await connect(place, name="test")
    source = JetStreamSource(stream=unique, durable="d")
    with pytest.raises(SourceError, match=re.escape(f"import $JS.ACK.{unique}.d.> from there")):
        await Attachment.open(client, SourcePartition(source, ">", "t"))
    await client.close()
    await owner.close()


class Bare(NatsServer):
    """A NATS server without JetStream."""

    def _command(self) -> list[str]:
        command = super()._command()
        path = Path(command[-1])
        path.write_text(re.sub(r"jetstream \{.*\}\n", "", path.read_text()))
        return command


async def test_servers_and_accounts_without_jetstream_are_told_by_everybody(
    accounts: NatsServer, unique: str
) -> None:
    with Bare() as server:
        for address, what in (
            (server.url, "is not enabled, or not ready; start nats-server with -js"),
            (url(accounts, "none"), "is not enabled for account 'NONE', or not ready"),
        ):
            place = NatsPlace((address,))
            assert what in await told(place)
            sink = JetStreamSink(JetStreamSink.Config(subject="out.a", servers=[address]))
            with pytest.raises(SinkUnavailableError, match=re.escape(what)):
                await sink.write(window_results(1))
            await sink.aclose()
            manager: NatsKvTaskManager[Any] = NatsKvTaskManager(unique, servers=[address])
            with pytest.raises(UnavailableError, match=re.escape(what)):
                await manager.list_tasks()
            await manager.aclose()
            client = await connect(place, name="test")
            with pytest.raises(UnavailableError, match=re.escape(what)):
                await publish(client, [Message(b"x", "in.a")])
            with pytest.raises(UnavailableError, match=re.escape(what)) as error:
                async with errors_told(client, "streams"):
                    await make_streams(client.jetstream(), {unique: [unique]})
            assert str(error.value).endswith("set SINFER_NATS_DOMAIN or SINFER_NATS_API_PREFIX")
            await client.close()
