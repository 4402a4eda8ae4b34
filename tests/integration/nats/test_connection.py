"""Connecting to NATS: errors at the start, patience afterwards."""

from __future__ import annotations

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import NatsServer
from sinfer.errors import UnavailableError
from sinfer.nats.connection import connect
from tests.support.until import until


@pytest.mark.parametrize("url", ["nats://me:s3cret@{}", "me:s3cret@{}", "nats://s3@cret@{}"])
async def test_a_server_that_is_away_is_reported_without_its_password(url: str) -> None:
    place = f"127.0.0.1:{free_port()}"
    with pytest.raises(UnavailableError, match=f"at (nats://)?{place}") as caught:
        await connect([url.format(place)], name="test")
    assert "s3cret" not in str(caught.value)


async def test_a_server_that_refuses_the_password_is_reported() -> None:
    with (
        NatsServer(config="authorization { user: me, password: right }") as server,
        pytest.raises(UnavailableError, match="Authorization"),
    ):
        await connect([server.url.replace("//", "//me:wrong@")], name="test")


async def test_a_connection_outlives_an_outage_longer_than_the_tries_at_the_start() -> None:
    with NatsServer() as server:
        client = await connect([server.url], name="test")
        server.process.kill()
        await until(lambda: client.server_pool[0].reconnects >= 3, "three tries")
        server.start()
        await until(lambda: client.is_connected, "a connection")
        await client.close()
