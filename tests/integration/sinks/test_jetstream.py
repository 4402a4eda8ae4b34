"""The jetstream sink against a real server: headers, refusals, lost acks, lost connections."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import nats
import psutil
import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.js.api import DiscardPolicy, StreamConfig

from sinfer.config.jetstream_place import NatsPlace
from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import NatsServer
from sinfer.errors import SinkError, SinkRejectedError, SinkUnavailableError
from sinfer.sinks import JetStreamSink
from sinfer.sinks.jetstream.publisher import MAX_GROUP_MESSAGES, JetStreamPublisher
from sinfer.types.result import Confirmed
from tests.integration.sinks.stalling import stalled
from tests.support.until import until, until_true
from tests.support.window_results import current, window_results


def jetstream_sink(server: NatsServer, subject: str, **settings: Any) -> JetStreamSink:
    return JetStreamSink(JetStreamSink.Config(servers=[server.url], subject=subject, **settings))


@pytest.fixture
async def stream(nats_client: Client, unique: str) -> AsyncIterator[str]:
    """A stream of the subjects below its name."""
    await add_stream(nats_client, unique)
    yield unique
    await nats_client.jetstream().delete_stream(unique)


async def add_stream(client: Client, name: str, **settings: Any) -> None:
    await client.jetstream().add_stream(StreamConfig(name=name, subjects=[f"{name}.>"], **settings))


def reconfigure(server: NatsServer, config: str) -> None:
    """Have a server take other users while it runs."""
    server._extra = config
    server._command()
    log = server.directory / "server.log"
    before = log.read_text().count("Reloaded server")
    server.process.signal(signal.SIGHUP)
    until_true(lambda: log.read_text().count("Reloaded server") > before)


async def count(client: Client, stream: str) -> int:
    return (await client.jetstream().stream_info(stream)).state.messages


async def subscribed(client: Client, subject: str) -> Subscription:
    """A subscription that the server knows of."""
    subscription = await client.subscribe(subject)
    # The first flush may overtake the subscription, the second cannot.
    await client.flush()
    await client.flush()
    return subscription


@pytest.fixture
def own_server() -> Iterator[NatsServer]:
    """A server that the test may stop and kill."""
    with NatsServer() as server:
        yield server


async def test_a_message_is_the_result_and_says_where_it_comes_from(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    await sink.write(window_results([{"y": "ü"}], base_id="ex_1/in.w1/ü k/0"))
    await sink.aclose()
    message = await nats_client.jetstream().get_msg(stream, seq=1)
    assert message.data == '{"y":"ü"}'.encode()
    assert message.headers == {
        "Nats-Msg-Id": "ex_1/in.w1/%C3%BC k/0/0/0",
        "Sinfer-Product": "example",
        "Sinfer-Task": "ex_1",
        "Sinfer-Window": "ex_1/in.w1/%C3%BC k/0/0",
        "Sinfer-Closed-Ms": "1700000005250",
    }


async def test_a_subject_without_a_stream_is_named(nats_server: NatsServer, unique: str) -> None:
    sink = jetstream_sink(nats_server, f"{unique}.out")
    with pytest.raises(SinkUnavailableError, match=f"no stream covers subject '{unique}.out'"):
        await sink.write(window_results())
    await sink.aclose()


async def test_a_stream_deleted_meanwhile_is_told_and_taken_up_again(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique)
    sink = jetstream_sink(nats_server, f"{unique}.out")
    await sink.write(window_results())
    await nats_client.jetstream().delete_stream(unique)
    with pytest.raises(SinkUnavailableError, match="no stream covers subject"):
        await sink.write(window_results())
    await add_stream(nats_client, unique)
    await sink.write(window_results())
    await sink.aclose()
    assert await count(nats_client, unique) == 3


async def test_the_wrong_stream_gets_nothing(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out", stream="OTHER")
    with pytest.raises(SinkUnavailableError, match=f"by stream '{stream}', not by 'OTHER'"):
        await sink.write(window_results())
    await sink.aclose()
    assert await count(nats_client, stream) == 0


async def test_the_right_stream_is_accepted(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out", stream=stream)
    await sink.write(window_results(3))
    await sink.aclose()
    assert await count(nats_client, stream) == 3


async def test_a_stream_that_never_acknowledges_is_told(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique, no_ack=True)
    sink = jetstream_sink(nats_server, f"{unique}.out")
    with pytest.raises(SinkUnavailableError, match="no_ack"):
        await sink.write(window_results())
    await sink.aclose()


@pytest.mark.parametrize(("window_s", "warns"), [(60, True), (120, False)])
async def test_a_short_duplicate_window_is_warned_of_once(
    nats_server: NatsServer,
    nats_client: Client,
    unique: str,
    caplog: pytest.LogCaptureFixture,
    window_s: int,
    warns: bool,
) -> None:
    await add_stream(nats_client, unique, duplicate_window=window_s)
    sink = jetstream_sink(nats_server, f"{unique}.out")
    with caplog.at_level(logging.WARNING, "sinfer"):
        await asyncio.gather(*(sink.write(window_results(1, base_id=f"{i}")) for i in range(3)))
    await sink.aclose()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warns
    assert ("duplicate_window" in caplog.text) == warns


async def test_a_result_too_large_for_the_server_is_refused_and_the_connection_stays(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    large = "x" * 17_000_000
    results = window_results(["x", large, "y", large], ordinals=[3, 5, 7, 9])
    with pytest.raises(SinkRejectedError, match=r"result 1 has 17000.*max_payload") as caught:
        await sink.write(results)
    assert set(caught.value.ordinals or ()) == {5, 9}
    assert await count(nats_client, stream) == 2
    await sink.write(window_results(["x"]))
    await sink.aclose()
    assert await count(nats_client, stream) == 3


async def test_a_result_too_large_for_the_stream_is_refused(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique, max_msg_size=1000)
    sink = jetstream_sink(nats_server, f"{unique}.out")
    data = ["x" * 1000 if n in (0, 700, 1399) else n for n in range(1400)]  # several groups
    with pytest.raises(SinkRejectedError, match="message size exceeds") as caught:
        await sink.write(window_results(data))
    await sink.aclose()
    assert set(caught.value.ordinals or ()) == {0, 700, 1399}
    assert await count(nats_client, unique) == 1397


async def test_a_full_stream_takes_the_results_once_there_is_room(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique, max_msgs=2, discard=DiscardPolicy.NEW)
    sink = jetstream_sink(nats_server, f"{unique}.out")
    with pytest.raises(SinkUnavailableError, match="maximum messages exceeded"):
        await sink.write(window_results(3))
    await nats_client.jetstream().purge_stream(unique)
    await sink.write(window_results(2, base_id="next"))
    await sink.aclose()


async def test_an_answer_of_somebody_else_is_no_ack(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique)
    sink = jetstream_sink(nats_server, f"{unique}.out")
    await sink.write(window_results(1))
    await nats_client.jetstream().delete_stream(unique)
    answers = await subscribed(nats_client, f"{unique}.out")
    writing = asyncio.create_task(sink.write(window_results(1, base_id="next")))
    await (await answers.next_msg(timeout=5)).respond(b"hello")
    with pytest.raises(SinkUnavailableError, match="somebody other than JetStream"):
        await writing
    await sink.aclose()


async def test_acks_that_do_not_come_end_the_write(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique)
    sink = jetstream_sink(nats_server, f"{unique}.out", timeout="300ms")
    await sink.write(window_results(1))
    await nats_client.jetstream().delete_stream(unique)
    await subscribed(nats_client, f"{unique}.out")
    with pytest.raises(SinkUnavailableError, match=r"5 of 5 results .* have no ack"):
        await sink.write(window_results(5))
    await sink.aclose()


async def test_more_than_may_wait_for_acks_is_written_in_turns(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    results = 40 * MAX_GROUP_MESSAGES
    sink = jetstream_sink(nats_server, f"{stream}.out", timeout="30s")
    await sink.write(window_results(list(range(results))))
    await sink.aclose()
    assert await count(nats_client, stream) == results


async def test_a_cancelled_write_frees_its_room(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    await sink.write(window_results(1))
    for i in range(100):
        writing = asyncio.create_task(sink.write(window_results(1, base_id=f"c{i}")))
        await asyncio.sleep(0)
        writing.cancel()
        await asyncio.wait([writing])
    await sink.write(window_results(1, base_id="last"))
    await sink.aclose()


async def test_sinks_of_the_same_servers_share_a_connection_until_the_last_is_closed(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    def connections() -> int:
        return sum(
            bool(c.raddr) and c.raddr.port == nats_server.port
            for c in psutil.Process().net_connections()
        )

    before = connections()
    sinks = [jetstream_sink(nats_server, f"{stream}.{i}") for i in range(3)]
    await asyncio.gather(*(s.write(window_results(1, base_id=f"{s}")) for s in sinks))
    assert connections() == before + 1
    await sinks[0].aclose()
    await sinks[1].aclose()
    await sinks[2].write(window_results(1, base_id="after"))
    await sinks[2].aclose()
    assert connections() == before
    assert await count(nats_client, stream) == 4


async def test_a_stalled_server_ends_the_write_and_the_next_write_repeats_nothing(
    own_server: NatsServer, unique: str
) -> None:
    client = await nats.connect(own_server.url)
    await add_stream(client, unique)
    sink = jetstream_sink(own_server, f"{unique}.out", timeout="2s")
    await sink.write(window_results(1))
    with stalled(own_server), pytest.raises(SinkUnavailableError, match="100 of 100"):
        await sink.write(window_results(100, base_id="next"))
    await sink.write(window_results(100, base_id="next"))
    assert await count(client, unique) == 101
    await sink.aclose()
    await client.close()


async def test_every_result_is_there_once_after_the_server_was_killed_while_writing(
    own_server: NatsServer, unique: str
) -> None:
    client = await nats.connect(own_server.url)
    await add_stream(client, unique)
    sink = jetstream_sink(own_server, f"{unique}.out", timeout="5s")
    done = 0
    is_busy = asyncio.Event()

    async def write(window: int) -> None:
        nonlocal done

        async def is_written() -> bool:
            try:
                await sink.write(window_results(50, base_id=f"w{window}"))
            except SinkUnavailableError:
                return False
            return True

        await until(is_written, f"window {window} to be written")
        done += 1
        if done == 20:
            is_busy.set()

    writing = asyncio.gather(*(write(window) for window in range(200)))
    await is_busy.wait()
    await asyncio.to_thread(own_server.restart)
    await asyncio.wait_for(writing, 60)
    await sink.aclose()
    await client.close()
    client = await nats.connect(own_server.url)
    jetstream = client.jetstream()
    found = [
        str(((await jetstream.get_msg(unique, seq=seq + 1)).headers or {})["Nats-Msg-Id"])
        for seq in range(await count(client, unique))
    ]
    await client.close()
    assert sorted(found) == sorted(f"w{w}/0/{i}" for w in range(200) for i in range(50))


async def test_a_write_under_way_survives_a_reconnect(own_server: NatsServer, unique: str) -> None:
    client = await nats.connect(own_server.url)
    await add_stream(client, unique)
    sink = jetstream_sink(own_server, f"{unique}.out", timeout="20s")
    await sink.write(window_results(1))
    with stalled(own_server):
        writing = asyncio.create_task(sink.write(window_results(100, base_id="next")))
        publisher = sink._shared_publisher()
        await until(lambda: bool(publisher._groups), "the write to be under way")
        await asyncio.to_thread(own_server.restart)
    await writing
    await sink.aclose()
    await client.close()


async def test_a_server_that_is_away_is_reported(unique: str) -> None:
    server = f"nats://127.0.0.1:{free_port()}"
    sink = JetStreamSink(JetStreamSink.Config(servers=[server], subject="out", timeout="1s"))
    with pytest.raises(SinkUnavailableError, match=server):
        await sink.write(window_results())
    await sink.aclose()


async def test_a_connection_closed_for_good_fails_what_waits_and_is_made_anew(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique)
    publisher = JetStreamPublisher(NatsPlace((nats_server.url,)))
    listener = await subscribed(nats_client, "nobody.answers")
    writing = asyncio.create_task(
        publisher.publish("nobody.answers", [(b"NATS/1.0\r\n\r\n", b"x")], timeout_s=30)
    )
    await listener.next_msg(timeout=5)
    await (await publisher.client()).close()
    with pytest.raises(SinkError, match="was closed"):
        await writing
    await publisher.publish(f"{unique}.out", [(b"NATS/1.0\r\n\r\n", b"x")], timeout_s=5)
    await publisher.aclose()
    assert await count(nats_client, unique) == 1


async def test_a_connection_that_was_closed_fails_none_of_its_successors_messages(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> None:
    await add_stream(nats_client, unique)
    publisher = JetStreamPublisher(NatsPlace((nats_server.url,)))
    listener = await subscribed(nats_client, "nobody.answers.either")
    first = await publisher.client()
    await first.close()
    message = (b"NATS/1.0\r\n\r\n", b"x")
    writing = asyncio.create_task(
        publisher.publish("nobody.answers.either", [message], timeout_s=30)
    )
    asked = await listener.next_msg(timeout=5)
    await publisher._watch(first)  # which notices only now
    assert not writing.done()
    await nats_client.publish(asked.reply, b'{"stream":"S","seq":1}')
    await writing
    await publisher.aclose()


async def test_who_may_only_publish_writes_with_a_warning(
    caplog: pytest.LogCaptureFixture, unique: str
) -> None:
    users = """
    authorization { users: [
      {user: admin, password: a}
      {user: writer, password: w,
       permissions: {publish: ["*.out"], subscribe: ["_INBOX.>"]}}
    ] }
    """
    with NatsServer(config=users) as server:
        admin = await nats.connect(server.url.replace("//", "//admin:a@"))
        await add_stream(admin, unique)
        config = JetStreamSink.Config(
            servers=[server.url.replace("//", "//writer:w@")],
            subject=f"{unique}.out",
            timeout="500ms",
        )
        sink = JetStreamSink(config)
        await sink.write(window_results(2))
        # It cannot look whether what is there is a copy, and goes by what it knows.
        again = replace(window_results(2), may_be_there=True)
        assert await sink.write(again) == Confirmed(known=2)
        with pytest.raises(SinkRejectedError, match="same Nats-Msg-Id"):
            await sink.write(window_results(2))
        await sink.aclose()
        assert await count(admin, unique) == 2
        await admin.close()
    assert caplog.text.count("cannot look up the stream") == 1
    assert caplog.text.count("to tell copies of results") == 1


async def test_results_wait_for_a_permission_that_was_lost_and_for_a_stream_that_was_deleted(
    unique: str,
) -> None:
    users = "authorization {{ users: [{{user: admin, password: a}}, {{user: w, password: w{}}}] }}"
    closed = ', permissions: {publish: {deny: ">"}}'
    with NatsServer(config=users.format("")) as server:
        admin = await nats.connect(server.url.replace("//", "//admin:a@"))
        await add_stream(admin, unique)
        sink = JetStreamSink(
            JetStreamSink.Config(
                servers=[server.url.replace("//", "//w:w@")],
                subject=f"{unique}.out",
                timeout="500ms",
            )
        )
        await sink.write(window_results(2, base_id="first"))
        await admin.jetstream().delete_stream(unique)
        with pytest.raises(SinkUnavailableError, match="no stream covers subject"):
            await sink.write(window_results(2))
        await add_stream(admin, unique)
        assert await sink.write(window_results(2)) == Confirmed(new=2)
        reconfigure(server, users.format(closed))
        with pytest.raises(SinkUnavailableError, match="permissions violation for publish to"):
            await sink.write(window_results(2, base_id="next"))
        reconfigure(server, users.format(""))
        assert await sink.write(window_results(2, base_id="next")) == Confirmed(new=2)
        await sink.aclose()
        assert await count(admin, unique) == 4
        await admin.close()


async def test_new_results_and_those_that_are_there_are_told_apart(
    nats_server: NatsServer, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    results = current(window_results(5))
    assert await sink.write(results) == Confirmed(new=5)
    # Written again as by a worker that died behind its writes, and by one that knows of none.
    assert await sink.write(replace(results, attempt=2, may_be_there=True)) == Confirmed(known=5)
    assert await sink.write(results) == Confirmed(known=5)
    more = replace(current(window_results(7)), may_be_there=True)
    assert await sink.write(more) == Confirmed(new=2, known=5)
    await sink.aclose()


async def test_another_answer_of_the_model_is_a_copy_where_the_result_may_be_there(
    nats_server: NatsServer, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    await sink.write(current(window_results(["old", "old"])))
    again = replace(current(window_results(["new", "new"])), may_be_there=True)
    assert await sink.write(again) == Confirmed(known=2)
    with pytest.raises(SinkRejectedError, match="another one with the same Nats-Msg-Id") as caught:
        await sink.write(current(window_results(["new", "new"])))
    assert caught.value.confirmed == Confirmed(collided=2)
    await sink.aclose()


@pytest.mark.parametrize("may_be_there", [False, True])
async def test_a_message_of_somebody_else_under_the_same_id_is_a_collision(
    nats_server: NatsServer, nats_client: Client, stream: str, may_be_there: bool
) -> None:
    jetstream = nats_client.jetstream()
    results = replace(current(window_results(5)), may_be_there=may_be_there)
    theirs = {"Nats-Msg-Id": results.idempotency_key(results.rows[3])}
    await jetstream.publish(f"{stream}.out", results.rows[3].data, headers=theirs)
    other = {"Nats-Msg-Id": results.idempotency_key(results.rows[1])}
    await jetstream.publish(f"{stream}.other", b"x", headers=other)
    sink = jetstream_sink(nats_server, f"{stream}.out")
    with pytest.raises(SinkRejectedError, match="drops a result") as caught:
        await sink.write(results)
    await sink.aclose()
    assert set(caught.value.ordinals or ()) == {1, 3}
    assert caught.value.confirmed == Confirmed(new=3, collided=2)


async def test_what_was_removed_from_the_stream_counts_by_what_is_known(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    results = current(window_results(3))
    await sink.write(results)
    await nats_client.jetstream().purge_stream(stream)
    assert await sink.write(replace(results, may_be_there=True)) == Confirmed(known=3)
    with pytest.raises(SinkRejectedError) as caught:
        await sink.write(results)
    await sink.aclose()
    assert caught.value.confirmed == Confirmed(collided=3)


async def test_two_sinks_reruns_and_another_beginning_share_a_stream(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    window = window_results(10)
    rerun = replace(current(window), run="r1", is_again=True)
    for results in (
        current(window),
        current(window, sink="other"),
        current(window, incarnation="inc.1"),
        current(replace(window, product="another")),
        rerun,
    ):
        assert await sink.write(results) == Confirmed(new=10)
    assert await sink.write(replace(rerun, may_be_there=True)) == Confirmed(known=10)
    await sink.aclose()
    jetstream = nats_client.jetstream()
    assert (await jetstream.stream_info(stream)).state.messages == 50
    last = (await jetstream.get_msg(stream, seq=50)).headers or {}
    assert last["Nats-Msg-Id"] == "example~inc/ex_1/in.w1/all/0/0/9@s~r1"
    assert last["Sinfer-Replaces"] == "example~inc/ex_1/in.w1/all/0/0/9@s"


async def test_long_names_fit_and_stay_apart(
    nats_server: NatsServer, nats_client: Client, stream: str
) -> None:
    sink = jetstream_sink(nats_server, f"{stream}.out")
    for end in "ab":
        name = f"ex_1/in.w1/{'%E4%BD%A0' * 4096}{end}/0"
        assert await sink.write(current(window_results(2, base_id=name))) == Confirmed(new=2)
    await sink.aclose()
    assert (await nats_client.jetstream().stream_info(stream)).state.messages == 4
