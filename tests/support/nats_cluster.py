"""Three nats-servers that are a cluster, with JetStream: real processes on loopback."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import StreamInfo
from nats.js.errors import Error as JetStreamError

from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import NatsServer
from tests.support.until import until

SIZE = 3


class NatsCluster:
    """A cluster; use it as a context manager.

    Attributes:
        nodes: its servers.
    """

    def __init__(self, directory: Path) -> None:
        ports = [free_port() for _ in range(SIZE)]
        routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
        self.nodes = [
            NatsServer(
                directory / f"node{n}",
                config=(
                    f'server_name: "node{n}"\n'
                    f"lame_duck_grace_period: 1s\nlame_duck_duration: 30s\n"
                    f'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
                ),
            )
            for n, port in enumerate(ports)
        ]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """As sinfer takes it."""
        return ",".join(node.url for node in self.nodes)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.stop)
                node.start()
            asyncio.run(self._ready())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    async def _ready(self) -> None:
        """Wait until JetStream has a leader."""
        client = await self.connect()

        async def has_leader() -> bool:
            try:
                info = json.loads((await client.request("$JS.API.INFO", b"", timeout=1)).data)
            except NatsError:
                return False
            return "error" not in info

        await until(has_leader, "JetStream to have a leader", every_s=0.1)
        await client.close()

    async def connect(self) -> Client:
        """A connection that survives the end of any node."""

        async def ignore(_: Exception) -> None:
            """It connects to another."""

        return await nats.connect(
            [node.url for node in self.nodes],
            max_reconnect_attempts=-1, reconnect_time_wait=0.2, error_cb=ignore,
        )  # fmt: skip

    async def info(self, client: Client, stream: str) -> StreamInfo | None:
        """How a stream stands; None while it has no leader."""
        try:
            return await client.jetstream(timeout=2).stream_info(stream)
        except (NatsError, JetStreamError):
            return None

    async def settled(self, client: Client, *streams: str) -> None:
        """Wait until these streams have leaders, and all of their replicas are in step."""

        async def are_in_step() -> bool:
            for stream in streams:
                info = await self.info(client, stream)
                if info is None or info.cluster is None or not info.cluster.leader:
                    return False
                others = info.cluster.replicas or []
                if len(others) != SIZE - 1 or not all(other.current for other in others):
                    return False
            return True

        await until(are_in_step, "the streams to be in step", every_s=0.2)

    async def leader(self, client: Client, stream: str) -> NatsServer:
        """The node that leads a stream."""
        info = await client.jetstream().stream_info(stream)
        assert info.cluster is not None
        return self.nodes[int(str(info.cluster.leader).removeprefix("node"))]

    async def step_down(self, client: Client, stream: str, consumer: str = "") -> None:
        """Have the leader of a stream, or of one of its consumers, step down."""
        kind = "CONSUMER" if consumer else "STREAM"
        where = f"{stream}.{consumer}" if consumer else stream
        await client.request(f"$JS.API.{kind}.LEADER.STEPDOWN.{where}", b"", timeout=5)
