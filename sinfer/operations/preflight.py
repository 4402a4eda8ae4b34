"""Preflight: whether everything that a product needs is there and fits, before anything starts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from kombu.exceptions import OperationalError
from nats.aio.client import Client
from redis.exceptions import AuthenticationError, NoPermissionError

from sinfer.celery_app import make_app
from sinfer.errors import (
    AccessError,
    ConfigError,
    HookError,
    InferenceError,
    SinferError,
    SourceError,
    UnavailableError,
)
from sinfer.hooks import Hook
from sinfer.inference.base import InferenceClient
from sinfer.inference.v2 import DescribedModel
from sinfer.ingest.careful import look_at
from sinfer.ingest.choice import choose_mode, durable_name
from sinfer.ingest.existing import check_budget, risks
from sinfer.ingest.jetstream_api import JetStreamApi
from sinfer.ingest.stream_messages import StreamMessages
from sinfer.nats_connection import connect
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.base import Sink
from sinfer.windows.store import Store, tls_problem
from sinfer.windows.store_time import store_time
from sinfer.windows.window import Window

Verdict = Literal["ok", "warning", "error", "unreachable"]

_BROKER_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        what: what was looked at.
        verdict: ``warning`` works but is risky, ``error`` and ``unreachable`` will not work.
        text: what was found, and the remedy where one is needed.
    """

    what: str
    verdict: Verdict
    text: str


async def check_store(store: Store) -> AsyncIterator[Finding]:
    """Reachable, keeps what it is told, evicts nothing."""
    try:
        server = await store.ask(store.redis.info("server"))
        memory = await store.ask(store.redis.info("memory"))
        persistence = await store.ask(store.redis.info("persistence"))
        clients = await store.ask(store.redis.info("replication"))
    except SinferError as error:
        yield Finding("redis", verdict_of(error), str(error))
        return
    problems = (await store_time(store)).problems
    for problem in problems:
        yield Finding("redis clock", "warning", problem)
    if not problems:
        yield Finding("redis clock", "ok", "it agrees with the clock of this machine")
    version = server.get("valkey_version") or server.get("redis_version", "?")
    yield Finding("redis", "ok", f"{store.shown_url} answers, version {version}")
    if clients.get("role") not in (None, "master"):
        yield Finding("redis", "error", "it is a replica, which takes no writes")
    policy = memory.get("maxmemory_policy", "noeviction")
    limit = int(memory.get("maxmemory", 0))
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
        used = int(memory["used_memory"])
        full = used >= 0.8 * limit
        text = f"{100 * used // limit} % of maxmemory in use"
        yield Finding("redis memory", "warning" if full else "ok", text)
    if not int(persistence.get("aof_enabled", 0)):
        text = "appendonly is off: a restart loses windows; set appendonly yes, or use ack: done"
        yield Finding("redis persistence", "warning", text)
    elif persistence.get("aof_last_write_status") != "ok":
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


def verdict_of(error: SinferError) -> Verdict:
    """``unreachable`` where trying again may help."""
    if isinstance(error, UnavailableError) and not isinstance(error, AccessError):
        return "unreachable"
    return "error"


class TaskCheck:
    """The checks of one task.

    Args:
        product: the product.
        task: the task.
    """

    def __init__(self, product: Product, task: InferTaskConfig) -> None:
        self._product = product
        self._task = task
        self._name = f"{product.name}/{task.id}"
        self._sample: Window[Any] | None = None
        self._pipeline: InferPipeline[Any, Any] | None = None

    async def run(self) -> AsyncIterator[Finding]:
        """The pipeline, the source, the model and the sinks, in this order."""
        try:
            self._pipeline = self._product.make_pipeline(self._task)
        except ConfigError as error:
            yield Finding(self._name, "error", str(error))
            return
        if risk := held_back(self._task):
            yield self._finding("window", "warning", risk)
        if self._task.source.ack == "done" and self._task.dead_letter_subject is None:
            text = "they are in Redis only, where FLUSHALL takes them; set dead_letter_subject"
            yield self._finding("dead letters", "warning", text)
        async for finding in self._check_source():
            yield finding
        async for finding in self._check_model():
            yield finding
        async for finding in self._check_sinks():
            yield finding

    def _finding(self, part: str, verdict: Verdict, text: str) -> Finding:
        return Finding(f"{self._name} {part}", verdict, text)

    # --- source ---

    async def _check_source(self) -> AsyncIterator[Finding]:
        source = self._task.source
        try:
            client = await connect(source.place, name="sinfer-check")
        except (ConfigError, UnavailableError) as error:
            yield self._finding("source", verdict_of(error), str(error))
            return
        try:
            for subject in source.partition_subjects:
                try:
                    async for finding in self._check_partition(client, subject):
                        yield finding
                except SourceError as error:
                    yield self._finding("source", "error", str(error))
                except UnavailableError as error:
                    yield self._finding("source", "unreachable", str(error))
        finally:
            await client.close()

    async def _check_partition(self, client: Client, subject: str) -> AsyncIterator[Finding]:
        source = self._task.source
        api = JetStreamApi(client, source.stream)
        mode = await choose_mode(
            client, api, source, subject, name=f"{self._name}/{subject}", state=None
        )
        await mode.aclose([])
        yield self._finding("source", "ok", f"{subject}: {mode.text}")
        durable = durable_name(source, subject)
        info = None if durable is None else await api.consumer_info(durable)
        if info is not None:
            yield self._budget(subject, info.config.max_ack_pending)
            for risk in risks(source.stream, info, source.ack):
                yield self._finding("source", "warning", risk)
        message = await StreamMessages(client, source.stream).last(subject)
        if message is None or self._sample is not None or self._pipeline is None:
            return
        now_ms = message.timestamp_ns // 1_000_000
        prepared = await look_at(self._pipeline, message, now_ms, name=f"{self._name}/{subject}")
        where = f"the last message of {subject} ({message.stream_seq})"
        if prepared.entries:
            [entry] = prepared.entries
            self._sample = Window(
                [entry.item], [message], id="check", task=self._task.id, key=entry.key
            )
            yield self._finding("pipeline", "ok", f"preprocess takes {where}")
        elif prepared.dead:
            text = f"{where} would be a dead letter: {prepared.dead[0].error}"
            yield self._finding("pipeline", "warning", text)

    def _budget(self, subject: str, max_ack_pending: int | None) -> Finding:
        """Whether windows can become full before the consumer stops delivering."""
        try:
            text = check_budget(self._task, max_ack_pending)
        except ConfigError as error:
            return self._finding("source", "error", f"{subject}: {error}")
        if not text:
            return self._finding("source", "ok", f"{subject}: the consumer sets no limit")
        verdict: Verdict = "warning" if self._task.window.largest is None else "ok"
        return self._finding("source", verdict, f"{subject}: {text}")

    # --- model ---

    async def _check_model(self) -> AsyncIterator[Finding]:
        config = self._task.inference
        try:
            client = InferenceClient.make(config, "its inference client")
        except ConfigError as error:
            yield self._finding("model", "error", str(error))
            return
        try:
            if isinstance(client, DescribedModel):
                async for finding in self._check_v2(client):
                    yield finding
            elif client.endpoint:
                yield await self._check_endpoint(client)
            else:
                yield self._finding("model", "ok", f"{config.type} is ready")
        finally:
            await Hook("inference", "aclose", client.aclose).wait()

    async def _check_endpoint(self, client: InferenceClient) -> Finding:
        """Something listens there; these protocols have no harmless question to ask."""
        import httpx

        from sinfer.inference.http import HttpInferenceClient

        proxy = client.http.route.proxy if isinstance(client, HttpInferenceClient) else None
        what = client.endpoint if proxy is None else f"the proxy {proxy.shown}"
        url = httpx.URL(client.endpoint) if proxy is None else proxy.url
        port = url.port or {"https": 443, "socks5": 1080, "socks5h": 1080}.get(url.scheme, 80)
        try:
            async with asyncio.timeout(5):
                _, writer = await asyncio.open_connection(url.host, port)
        except (OSError, TimeoutError) as error:
            text = f"{what} takes no connection ({str(error) or type(error).__name__})"
            return self._finding("model", "unreachable", text)
        writer.close()
        behind = "" if proxy is None else f"; whether it leads to {client.endpoint} is not known"
        return self._finding("model", "ok", f"{what} takes connections{behind}")

    async def _check_v2(self, client: DescribedModel) -> AsyncIterator[Finding]:
        try:
            if not await client.is_ready():
                text = f"{client.endpoint}: the model {client.config.model!r} is not ready"
                yield self._finding("model", "unreachable", text)
                return
            metadata = await client.metadata()
        except InferenceError as error:
            yield self._finding("model", "error", str(error))
            return
        yield self._finding("model", "ok", f"model {metadata.get('name')!r} is ready")
        if self._sample is None or self._pipeline is None:
            text = "no message to make a request of: its shapes were not compared"
            yield self._finding("request", "warning", text)
            return
        try:
            build = Hook("request", "build_request", self._pipeline.build_request)
            request = await build.wait(self._sample)
        except HookError as error:
            yield self._finding("request", "error", str(error))
            return
        problems = differences(request, metadata)
        for problem in problems:
            yield self._finding("request", "error", problem)
        if not problems:
            yield self._finding("request", "ok", "its inputs fit the model's metadata")

    # --- sinks ---

    async def _check_sinks(self) -> AsyncIterator[Finding]:
        """Sinks are made, not written to: nobody asked for results."""
        for name, config in zip(self._task.sink_names(), self._task.sinks, strict=True):
            try:
                sink = Sink.make(config, "the sink")
                await Hook("sink", "aclose", sink.aclose).wait()
            except (ConfigError, HookError) as error:
                yield self._finding(f"sink {name}", "error", str(error))
            else:
                yield self._finding(f"sink {name}", "ok", "its settings are valid")


def held_back(task: InferTaskConfig) -> str:
    """What may hold a task's windows back for ever, and the remedy; empty when nothing may."""
    subjects = task.source.partition_subjects
    if task.window.time != "event" or len(subjects) == 1 or task.window.idle is not None:
        return ""
    return (
        f"its windows wait for the watermarks of all {len(subjects)} partitions, so one without"
        " messages holds all of them back for ever; set window.idle, such as 5s"
    )


def differences(request: Any, metadata: dict[str, Any]) -> list[str]:
    """What a v2 request asks for that the model's metadata do not offer.

    Sizes of -1 in the metadata fit any size.
    """
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        return ["build_request returned no mapping with a list of inputs"]
    offered = {tensor["name"]: tensor for tensor in metadata.get("inputs") or []}
    if not offered:
        return []
    problems = []
    sent = {tensor.get("name"): tensor for tensor in request["inputs"]}
    for name, tensor in sent.items():
        if name not in offered:
            known = ", ".join(sorted(offered))
            problems.append(f"input {name!r} is not one of the model's ({known})")
            continue
        expected = offered[name]
        if tensor.get("datatype") != expected.get("datatype"):
            problems.append(
                f"input {name!r} is {tensor.get('datatype')}, the model takes"
                f" {expected.get('datatype')}"
            )
        shape, wanted = list(tensor.get("shape") or []), list(expected.get("shape") or [])
        fits = len(shape) == len(wanted) and all(
            want in (-1, have) for have, want in zip(shape, wanted, strict=True)
        )
        if not fits:
            problems.append(f"input {name!r} has shape {shape}, the model takes {wanted}")
    problems += [f"the model's input {name!r} is not sent" for name in offered if name not in sent]
    return problems
