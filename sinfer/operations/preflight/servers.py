"""Whether Redis and the Celery broker are there, and keep what they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from sinfer.errors import SinferError
from sinfer.operations.preflight.findings import Finding, verdict_of
from sinfer.store.connection import Store
from sinfer.store.server import ReplicaState, ServerState, server_state
from sinfer.store.store_time import store_time
from sinfer.tasks.broker_check import broker_answers
from sinfer.types.check import Verdict


async def check_store(store: Store) -> AsyncIterator[Finding]:
    """Reachable, keeps what it is told, evicts nothing."""
    try:
        state = await server_state(store)
    except SinferError as error:
        yield Finding("redis", verdict_of(error), str(error))
        return
    problems = (await store_time(store)).problems
    for problem in problems:
        yield Finding("redis clock", "warning", problem)
    if not problems:
        yield Finding("redis clock", "ok", "it agrees with the clock of this machine")
    yield Finding("redis", "ok", f"{store.shown_url} answers, version {state.version}")
    for finding in _roles(store, state):
        yield finding
    policy, limit = state.eviction, state.memory.limit
    if policy != "noeviction":
        verdict: Verdict = "error" if limit else "warning"
        text = f"maxmemory-policy is {policy}: it may evict windows; set it to noeviction"
        yield Finding("redis eviction", verdict, text)
    else:
        yield Finding("redis eviction", "ok", "maxmemory-policy is noeviction")
    if not limit:
        text = "maxmemory is not set: a full machine stops everything; set it, to be warned before"
        yield Finding("redis memory", "warning", text)
    else:
        used = state.memory.used
        full = used >= 0.8 * limit
        text = f"{100 * used // limit} % of maxmemory in use"
        yield Finding("redis memory", "warning" if full else "ok", text)
    if not state.has_log:
        text = "appendonly is off: a restart loses windows; set appendonly yes, or use ack: done"
        yield Finding("redis persistence", "warning", text)
    elif state.log_status != "ok":
        text = "the append-only file cannot be written; is the disk full?"
        yield Finding("redis persistence", "error", text)
    else:
        yield Finding("redis persistence", "ok", "append-only file is on")


def _roles(store: Store, state: ServerState) -> Iterator[Finding]:
    """What it is among other servers."""
    if state.role != "master":
        yield Finding("redis", "error", "it is a replica, which takes no writes")
    elif (replicas := _replicas(store, state.replicas)) is not None:
        yield replicas
    if state.shards is None or state.shards > 1:
        shards = "" if state.shards is None else f" of {state.shards} shards"
        text = (
            f"it is a node of a Redis Cluster{shards}, over which sinfer does not spread its keys:"
            " use one primary, with Sentinels where it has to fail over (sentinel://)"
        )
        yield Finding("redis", "error", text)


def _replicas(store: Store, found: ReplicaState) -> Finding | None:
    """Whether a failover takes anything; None where there is nothing to fail over to."""
    needed = store.replicas
    if not found.count and not needed:
        return None
    told = f"{found.in_step} of {found.count} replicas are in step"
    if needed is None:
        needed = 1
    if found.in_step < needed:
        text = (
            f"{told}, and {needed} have to have what is acknowledged (SINFER_REDIS_REPLICAS):"
            " nothing is acknowledged until they do"
        )
        return Finding("redis replicas", "warning", text)
    if not needed and not found.are_demanded:
        text = (
            f"{told}, and a failover may take what they do not have yet: neither"
            " SINFER_REDIS_REPLICAS nor min-replicas-to-write asks for any"
        )
        return Finding("redis replicas", "warning", text)
    how = f"what is acknowledged is on {needed} of them" if needed else "writes need them"
    return Finding("redis replicas", "ok", f"{told}; {how}")


async def check_broker() -> Finding:
    """Celery's broker takes connections."""
    verdict, text = await broker_answers()
    return Finding("broker", verdict, text)
