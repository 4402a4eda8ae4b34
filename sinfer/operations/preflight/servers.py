"""Whether Redis and the Celery broker are there, and keep what they are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError, NoPermissionError

from sinfer.errors import SinferError
from sinfer.operations.preflight.findings import Finding, verdict_of
from sinfer.store.connection import Store, tls_problem
from sinfer.store.server import server_state
from sinfer.store.time import store_time
from sinfer.tasks.application import make_app
from sinfer.types.check import Verdict

_BROKER_TIMEOUT_S = 5


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
    if state.role != "master":
        yield Finding("redis", "error", "it is a replica, which takes no writes")
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


async def check_broker() -> Finding:
    """Celery's broker takes connections."""

    def ask() -> None:
        with make_app([]).connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=_BROKER_TIMEOUT_S)

    try:
        async with asyncio.timeout(2 * _BROKER_TIMEOUT_S):
            await asyncio.to_thread(ask)
    except (OperationalError, OSError, TimeoutError) as error:
        if (reason := tls_problem(error)) is not None:
            return Finding("broker", "error", f"the Celery broker {reason}")
        reason = str(error) or type(error).__name__
        if isinstance(error.__cause__, AuthenticationError | NoPermissionError):
            text = f"the Celery broker refuses the user or password ({reason})"
            return Finding("broker", "error", f"{text}; correct them in SINFER_BROKER_URL")
        text = f"the Celery broker does not answer ({reason})"
        return Finding("broker", "unreachable", f"{text}; see SINFER_BROKER_URL")
    return Finding("broker", "ok", "the Celery broker answers")
