"""What Redis says of itself: how full it is, and whether it keeps what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sinfer.errors import AccessError

if TYPE_CHECKING:
    from sinfer.store.connection import Store


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """Redis' memory, bytes.

    Attributes:
        used: in use.
        limit: ``maxmemory``; 0 for none.
    """

    used: int
    limit: int


async def server_memory(store: Store) -> ServerMemory:
    """How full Redis is.

    Raises:
        UnavailableError: Redis cannot be reached.
    """
    info = await store.ask(store.redis.info("memory"))
    return ServerMemory(int(info["used_memory"]), int(info.get("maxmemory", 0)))


_IN_STEP_S, _IN_STEP_BYTES = 2, 2**20
"""A replica is in step that has been heard of so lately, and lacks no more than that."""


@dataclass(frozen=True, slots=True)
class ReplicaState:
    """The replicas of a primary.

    Attributes:
        count: how many it knows.
        in_step: how many of them follow it closely.
        are_demanded: whether it refuses writes while too few do (``min-replicas-to-write``).
    """

    count: int
    in_step: int
    are_demanded: bool

    @classmethod
    def of(cls, replication: Mapping[str, Any]) -> Self:
        """By ``INFO replication``, as redis-py has it."""
        known = [
            what for name, what in replication.items()
            if name.startswith("slave") and isinstance(what, dict)
        ]  # fmt: skip
        end = int(replication.get("master_repl_offset", 0))
        in_step = [
            one for one in known
            if one.get("state") == "online"
            and int(one.get("lag", 0)) <= _IN_STEP_S
            and end - int(one.get("offset", 0)) <= _IN_STEP_BYTES
        ]  # fmt: skip
        return cls(len(known), len(in_step), "min_slaves_good_slaves" in replication)


@dataclass(frozen=True, slots=True)
class ServerState:
    """How Redis is set up.

    Attributes:
        version: of Redis or Valkey.
        role: ``master``, or what else it says.
        shards: of the Redis Cluster that it is a node of; 0 where it is of none, and None where the
            user may not ask.
        replicas: of it, where it is a primary.
        eviction: ``maxmemory-policy``.
        memory: how full it is.
        has_log: whether the append-only file is on.
        log_status: of the last write to it, ``ok`` where it went well.
    """

    version: str
    role: str
    shards: int | None
    replicas: ReplicaState
    eviction: str
    memory: ServerMemory
    has_log: bool
    log_status: str


async def server_state(store: Store) -> ServerState:
    """How Redis is set up; raises as ``server_memory``."""
    server, memory, persistence, replication = [
        await store.ask(store.redis.info(section))
        for section in ("server", "memory", "persistence", "replication")
    ]
    mode = server.get("server_mode")  # of Valkey
    return ServerState(
        str(server.get("valkey_version") or server.get("redis_version", "?")),
        str(replication.get("role") or "master"),
        await _shards(store) if "cluster" in (mode, server.get("redis_mode")) else 0,
        ReplicaState.of(replication),
        str(memory.get("maxmemory_policy", "noeviction")),
        ServerMemory(int(memory["used_memory"]), int(memory.get("maxmemory", 0))),
        bool(int(persistence.get("aof_enabled", 0))),
        str(persistence.get("aof_last_write_status")),
    )


async def _shards(store: Store) -> int | None:
    try:
        found = await store.ask(store.redis.execute_command("CLUSTER", "INFO"))  # type: ignore[no-untyped-call]
    except AccessError:
        return None
    lines = found.decode() if isinstance(found, bytes) else str(found)
    values = dict(line.split(":", 1) for line in lines.split() if ":" in line)
    return int(values.get("cluster_size", 0))
