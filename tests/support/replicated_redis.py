"""A Redis with a replica behind one address, whose replication can be held back, and that fails
over."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from redis import Redis

from sinfer.embedded.servers import RedisServer
from tests.chaos.proxy import TcpProxy
from tests.support.until import until_true


class ReplicatedRedis:
    """Two servers, of which one is the primary at a time.

    Args:
        replica: options of the replica.

    Attributes:
        url: leads to the primary, whichever that is.
        primary, replica: which is which now.
    """

    def __init__(self, replica: dict[str, str] | None = None, **primary: str) -> None:
        quick = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        self.primary = RedisServer(config={**quick, **primary})
        self.replica = RedisServer(config={**quick, **(replica or {})})
        self._front = TcpProxy("clients", self.primary.port)
        self._between = TcpProxy("replication", self.primary.port)
        self.url = f"redis://127.0.0.1:{self._front.port}/0"

    def __enter__(self) -> Self:
        self.primary.start()
        self.replica.start()
        self._follow()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in (self.replica, self.primary):
            server.stop()
        for proxy in (self._front, self._between):
            proxy.close()

    def hold_back(self) -> None:
        """The replica gets nothing from here on, and the primary does not notice."""
        self._between.change("stalled")

    def go_on(self) -> None:
        """The replica gets what was held back, and more."""
        self._between.change("clear")

    def lag(self, seconds: float) -> None:
        """The replica gets everything so much later."""
        self._between.change("slow", delay_s=seconds)

    def fail_over(self) -> None:
        """The primary is killed, and the replica takes its place; the other comes back as its
        replica."""
        self.primary.process.kill()
        self.promote()
        self.replica.start()
        self._between.change("clear")
        self._between.lead_to(self.primary.port)
        self._follow()

    def promote(self) -> None:
        """The replica takes the place of the primary, whether or not that is still there."""
        asked(self.replica, "REPLICAOF", "NO", "ONE")
        self._front.lead_to(self.replica.port)
        self.primary, self.replica = self.replica, self.primary

    def is_held_up(self) -> bool:
        """Whether the primary has more than the replica."""
        mine, theirs = (offset_of(server) for server in (self.primary, self.replica))
        return mine > theirs

    def _follow(self) -> None:
        asked(self.replica, "REPLICAOF", "127.0.0.1", str(self._between.port))
        until_true(self._is_in_step)

    def _is_in_step(self) -> bool:
        return bool(asked(self.replica, "INFO", "replication")["master_link_status"] == "up")


def asked(server: RedisServer, *command: str) -> Any:
    """A server's answer, asked itself."""
    with Redis.from_url(server.url) as client:
        return client.execute_command(*command)


def offset_of(server: RedisServer) -> int:
    """How much of the history of writes a server has."""
    found = asked(server, "INFO", "replication")
    return int(found["master_repl_offset"])
