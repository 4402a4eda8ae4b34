"""A primary with replicas, watched by three Sentinels: real processes on loopback."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sinfer.embedded.private_names import valkey_program
from sinfer.embedded.servers import EmbeddedServer, RedisServer
from tests.support.until import until

NAME = "primary"


class SentinelServer(EmbeddedServer):
    """A Sentinel that finds a primary gone after half a second.

    Args:
        primary: the port of the primary.
        quorum: how many Sentinels have to find so.
    """

    name = "valkey-sentinel"

    def __init__(self, directory: Path, primary: int, quorum: int = 2) -> None:
        self._primary, self._quorum = primary, quorum
        super().__init__(directory)

    def _command(self) -> list[str]:
        path = self.directory / "sentinel.conf"
        if not path.exists():  # it writes there itself
            path.write_text(
                f"bind 127.0.0.1\nport {self.port}\ndir {self.directory}\n"
                f"sentinel monitor {NAME} 127.0.0.1 {self._primary} {self._quorum}\n"
                f"sentinel down-after-milliseconds {NAME} 500\n"
                f"sentinel failover-timeout {NAME} 2000\n"
            )
        return [str(valkey_program()), str(path), "--sentinel"]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"


class Sentinels:
    """A primary, a replica and three Sentinels; use it as a context manager.

    Attributes:
        servers: the primary as it was at first, and its replica.
        sentinels: the Sentinels.
    """

    def __init__(self, directory: Path) -> None:
        primary = RedisServer(directory / "0")
        config = {"replicaof": f"127.0.0.1 {primary.port}"}
        self.servers = [primary, RedisServer(directory / "1", config=config)]
        self.sentinels = [
            SentinelServer(directory / f"sentinel-{n}", primary.port) for n in range(3)
        ]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in (*self.servers, *self.sentinels):
                stack.enter_context(server)
            asyncio.run(self._ready())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """As sinfer takes it."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://{hosts}/{NAME}/0"

    async def _ready(self) -> None:
        """Wait until the Sentinels know each other and the replica, which is in step."""
        for sentinel in self.sentinels:
            redis: Any
            async with Redis.from_url(sentinel.url, decode_responses=True) as redis:
                await redis.execute_command("SENTINEL", "DEBUG", "INFO-PERIOD", "200")

                async def knows(redis: Any = redis) -> bool:
                    known = await redis.execute_command("SENTINEL", "MASTER", NAME)
                    return int(known["num-slaves"]) == 1 and int(known["num-other-sentinels"]) == 2

                await until(knows, "the Sentinels to know each other")
        async with Redis.from_url(self.servers[1].url) as redis:

            async def is_in_step() -> bool:
                found = await redis.info("replication")
                return bool(found["master_link_status"] == "up")

            await until(is_in_step, "the replica to be in step")

    async def primary(self) -> RedisServer:
        """The primary of the moment, by the Sentinels."""
        redis: Any
        async with Redis.from_url(self.sentinels[0].url, decode_responses=True) as redis:
            _, port = await redis.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        return next(server for server in self.servers if server.port == int(port))

    async def fail_over(self) -> None:
        """Have the Sentinels make the replica the primary, as when somebody asks for it."""
        before = await self.primary()
        redis: Any
        async with Redis.from_url(self.sentinels[0].url) as redis:

            async def is_begun() -> bool:
                try:
                    await redis.execute_command("SENTINEL", "FAILOVER", NAME)
                except ResponseError:  # what it knows of the replica is old, or it is at it
                    return False
                return True

            await until(is_begun, "a failover", every_s=0.2)

        async def has_changed() -> bool:
            return await self.primary() is not before

        await until(has_changed, "another primary")


class WatchedRedis(RedisServer):
    """A primary without replicas, and one Sentinel; only the primary is killed and restarted."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory / "primary")
        self._sentinel = SentinelServer(directory / "sentinel", self.port, quorum=1)

    def start(self) -> Self:
        if not self._sentinel.process.is_running:
            self._sentinel.start()
        return super().start()

    def stop(self) -> None:
        self._sentinel.stop()
        super().stop()

    @property
    def url(self) -> str:
        """As sinfer takes it."""
        return f"sentinel://127.0.0.1:{self._sentinel.port}/{NAME}/1"
