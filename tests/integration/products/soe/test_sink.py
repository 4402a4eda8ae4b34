"""Only answers that converged become set-points, each of them once."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from sinfer import Sink
from sinfer.embedded.servers import NatsServer
from sinfer.encoding import from_json
from sinfer.products.soe.sink import SetPointSink
from tests.support.window_results import window_results


@pytest.fixture
async def sink(
    nats_server: NatsServer, nats_client: Client, unique: str
) -> AsyncIterator[SetPointSink]:
    subject = f"{unique}.setpoints"
    await nats_client.jetstream().add_stream(name=unique, subjects=[subject])
    config = Sink.validator()(
        {"type": "soe_setpoints", "subject": subject, "servers": [nats_server.url]}
    )
    sink = Sink.class_for(config)(config)
    assert isinstance(sink, SetPointSink)
    yield sink
    await sink.aclose()


async def stored(client: Client, stream: str) -> list[float]:
    """The ``end`` of all set-points in a stream."""
    jetstream = client.jetstream()
    count = (await jetstream.stream_info(stream)).state.messages
    messages = [await jetstream.get_msg(stream, seq) for seq in range(1, count + 1)]
    return [from_json(message.data or b"")["end"] for message in messages]


@pytest.mark.parametrize("status", ["infeasible", "not_converged", "out_of_bounds"])
async def test_an_answer_that_did_not_converge_is_never_sent(
    sink: SetPointSink, nats_client: Client, unique: str, status: str
) -> None:
    await sink.write(window_results([{"status": status, "end": 1.0}]))
    assert await stored(nats_client, unique) == []


async def test_a_converged_answer_is_sent_once_however_often_it_is_written(
    sink: SetPointSink, nats_client: Client, unique: str
) -> None:
    for attempt in (1, 2):
        await sink.write(window_results([{"status": "converged", "end": 1.0}], attempt=attempt))
    await sink.write(window_results([{"status": "infeasible", "end": 2.0}], base_id="next"))
    await sink.write(window_results([{"status": "converged", "end": 3.0}], base_id="last"))
    assert await stored(nats_client, unique) == [1.0, 3.0]
