"""Everything that a chaos run has: servers, proxies before them, sinfer's own processes, tasks."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nats
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StreamConfig

from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.servers import NatsServer
from sinfer.embedded.services import Place, Service, beat_service, ingest_service, worker_service
from sinfer.windows.ids import Scope
from tests.chaos import product, twin
from tests.chaos.clock import SKEWED_CLOCK, Clock
from tests.chaos.proxy import TcpProxy
from tests.chaos.redis_clock import ClockedRedis
from tests.support.deployment import Subjects, environment_without_settings

PRODUCT = product.product.name
TWIN = twin.product.name
LEASE_S = 2.0
ACK_WAIT_S = 3.0
"""How soon a durable consumer gives a message again that nobody acknowledged."""
DUPLICATE_WINDOW_S = 24 * 3600.0
"""Far above a run, as it must be above the longest time in which a result is written again."""

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class TaskPlan(Subjects):
    """A task of the run.

    Attributes:
        id: of the task; its stream is called so as well.
        window: its windows.
        retention: of its stream.
        durable: whether it reads through a durable consumer.
        ack: when messages are acknowledged.
        keyed: whether items have keys of their own.
        copies: whether dead letters are copied to a stream.
        two_sinks: whether a second JetStream sink writes to the same stream.
        is_twofold: whether a second product has a task of this id, subject and sinks.
    """

    id: str
    window: Mapping[str, Any]
    retention: RetentionPolicy = RetentionPolicy.LIMITS
    durable: bool = False
    ack: str = "stored"
    keyed: bool = False
    copies: bool = False
    two_sinks: bool = False
    is_twofold: bool = False

    @property
    def more_results(self) -> str:
        """Subject of its second JetStream sink, in the stream of the first."""
        return f"out2.{self.id}"

    @property
    def dead_letters(self) -> str:
        """Subject of the copies of its dead letters."""
        return f"dead.{self.id}"

    @property
    def scope(self) -> Scope:
        return Scope(PRODUCT, self.id, self.subject)

    @property
    def twin(self) -> Scope:
        """The same task of the second product."""
        return Scope(TWIN, self.id, self.subject)


EVENT_TIME = {
    "type": "tumbling", "size": "500ms", "time": "event", "max_out_of_orderness": "2s",
    "late": "dead_letter", "idle": "12s",
}  # fmt: skip
_COUNT = {"type": "count", "count": 50, "max_wait": "1s"}

EVERY_WAY = (
    TaskPlan("position", _COUNT, two_sinks=True, is_twofold=True),
    TaskPlan(
        "queue",
        {"type": "count", "count": 20, "max_wait": "1s"},
        retention=RetentionPolicy.WORK_QUEUE,
        durable=True,
        keyed=True,
    ),
    TaskPlan("done", _COUNT, durable=True, ack="done"),
    TaskPlan("events", EVENT_TIME, keyed=True),
)
"""Tasks that read, acknowledge and window in all the ways that differ when things break."""


class Site:
    """Servers, proxies and processes of one run, in one directory.

    Args:
        directory: takes all files.
        tasks: the product's tasks.
        fsync: Redis' ``appendfsync``.
        ingestors, workers, beats: how many processes of each kind.
        skew_s: at first the clocks of the processes of each kind are wrong by minus to plus so
            much.

    Attributes:
        proxies: by name, each before one server for one purpose.
        services: sinfer's own processes.
        clocks: theirs, by the name of the process.
        poisons: hostile messages of each task, by number, with what they do.
        held_down: processes that a fault keeps from running.
        restarts: of each process, how often it ended by itself and was started again.
        rerun: of each task the stream sequences of windows that were run again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        tasks: Iterable[TaskPlan] = EVERY_WAY,
        fsync: str = "everysec",
        ingestors: int = 2,
        workers: int = 3,
        beats: int = 2,
        skew_s: float = 0.0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.tasks = tuple(tasks)
        self.nats = NatsServer(directory / "nats")
        self.redis = ClockedRedis(directory / "redis", config={"appendfsync": fsync})
        self.model = ModelServer(directory / "model")
        self.proxies: dict[str, TcpProxy] = {}
        self.services: list[Service] = []
        self.clocks: dict[str, Clock] = {}
        self.poisons: dict[str, dict[int, str]] = {task.id: {} for task in self.tasks}
        self.held_down: set[str] = set()
        self.restarts: Counter[str] = Counter()
        self.rerun: dict[str, set[int]] = {task.id: set() for task in self.tasks}
        self._counts = {"ingest": ingestors, "worker": workers, "beat": beats}
        if any(task.is_twofold for task in self.tasks):
            self._counts["ingest-twin"] = 1
        self._skew_s = skew_s
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        try:
            for server in (self.nats, self.redis, self.model):
                self._ending.callback(server.stop)
                server.start()
            for name, port in (
                ("nats", self.nats.port),
                ("nats-sinks", self.nats.port),
                ("redis", self.redis.port),
                ("broker", self.redis.port),
                ("model", self.model.port),
            ):
                proxy = self.proxies[name] = TcpProxy(name, port)
                self._ending.callback(proxy.close)
            self._write_tasks()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.close()

    # --- processes ---

    def start(self) -> None:
        """Start sinfer's processes side by side and wait until all are ready."""
        for kind, count in self._counts.items():
            for place in range(count):
                # The first of a kind is slow, the second fast, the third right, and so on.
                skew = self._skew_s * (-1, 1, 0)[place % 3]
                self.services.append(self._service(kind, f"{kind}{place + 1}", skew))
        for service in self.services:
            self._ending.callback(service.process.kill)
            service.start()
        for service in self.services:
            if not service.name.startswith("ingest"):
                service.wait_until_ready()

    def _service(self, kind: str, name: str, skew_s: float) -> Service:
        clock = self.clocks[name] = Clock(self.directory / f"{name}.clock", skew_s)
        place = Place(self.directory, self._environment(clock), cwd=self.directory)
        if kind.startswith("ingest"):
            return ingest_service(place, TWIN if kind == "ingest-twin" else PRODUCT, name=name)
        if kind == "worker":
            return worker_service(place, concurrency=2, name=name)
        return beat_service(place, name=name)

    def _environment(self, clock: Clock) -> dict[str, str]:
        proxies = self.proxies
        return {
            **environment_without_settings(),
            **clock.environment,
            "PYTHONPATH": f"{SKEWED_CLOCK}{os.pathsep}{_ROOT}",
            product.TASKS_VARIABLE: str(self.directory / "tasks.json"),
            "SINFER_PRODUCTS": f"{product.__name__},{twin.__name__}",
            "SINFER_NATS_SERVERS": f"nats://127.0.0.1:{proxies['nats'].port}",
            "SINFER_REDIS_URL": f"redis://127.0.0.1:{proxies['redis'].port}/0",
            "SINFER_BROKER_URL": f"redis://127.0.0.1:{proxies['broker'].port}/1",
        }

    def let_up(self, service: Service) -> None:
        """Start a process again that a fault held down."""
        self.held_down.discard(service.name)
        if not service.process.is_running:
            service.start()

    def keep_up(self) -> None:
        """Start what ended by itself, as a supervisor does."""
        for service in self.services:
            if service.name not in self.held_down and not service.process.is_running:
                self.restarts[service.name] += 1
                service.start()

    def stop(self) -> None:
        """SIGTERM to all of sinfer's processes; they have time to hand back what they hold."""
        for service in self.services:
            service.stop(grace_s=20.0)

    # --- tasks ---

    def database(self, task: TaskPlan) -> Path:
        """The SQLite file of a task's SQL sink."""
        return self.directory / f"{task.id}.sqlite"

    def _write_tasks(self) -> None:
        path = self.directory / "tasks.json"
        listed = {
            PRODUCT: [self._settings(task) for task in self.tasks],
            TWIN: [self._settings(task) for task in self.tasks if task.is_twofold],
        }
        path.write_text(json.dumps(listed))

    def config(self, task: TaskPlan) -> product.ChaosTask:
        """A task as processes have it."""
        return product.ChaosTask.model_validate(self._settings(task))

    @property
    def scopes(self) -> list[Scope]:
        """The partitions of all tasks of both products."""
        twins = [task.twin for task in self.tasks if task.is_twofold]
        return [*(task.scope for task in self.tasks), *twins]

    def _settings(self, task: TaskPlan) -> dict[str, Any]:
        source = {"stream": task.id, "subject": task.subject, "ack": task.ack, "batch": 200}
        if task.durable:
            source["durable"] = f"{task.id}-reader"
        sinks = f"nats://127.0.0.1:{self.proxies['nats-sinks'].port}"
        return {
            "id": task.id,
            "keyed": task.keyed,
            "source": source,
            "dead_letter_subject": task.dead_letters if task.copies else None,
            "window": task.window,
            "inference": {
                "type": "v2",
                "url": f"http://127.0.0.1:{self.proxies['model'].port}",
                "model": "example",
                "timeout": "2s",
                "retry_base": "50ms",
                "retry_max": "1s",
                "endpoint_concurrency": 16,
            },
            "sinks": [
                {
                    "type": "jetstream", "subject": task.results, "servers": [sinks],
                    "timeout": "2s",
                },
                *(
                    [{
                        "type": "jetstream", "name": "second", "subject": task.more_results,
                        "servers": [sinks], "timeout": "2s",
                    }]
                    if task.two_sinks
                    else []
                ),
                {
                    "type": "sql", "url": f"sqlite:///{self.database(task)}", "table": "results",
                    "timeout": "2s",
                },
            ],
            # Outages burn no attempts, but garbage for an answer does. A fault of that kind
            # overlaps with another for up to seven seconds, in which a window is tried again after
            # half a second each, and a second one may follow at once. Storms of 40 faults were seen
            # to fail with the default of 5, and to need up to 14. So many workers die as well
            # before an item is to blame for that.
            "limits": {"lease": f"{LEASE_S:g}s", "max_attempts": 20},
        }  # fmt: skip

    async def make_streams(self) -> None:
        """Streams for what goes in and what comes out, and the durable consumers."""
        client = await self.connect()
        jetstream = client.jetstream()
        for task in self.tasks:
            await jetstream.add_stream(
                StreamConfig(
                    name=task.id,
                    subjects=[task.subject],
                    retention=task.retention,
                    duplicate_window=DUPLICATE_WINDOW_S,
                )
            )
            for name, *subjects in (
                ("out", task.results, task.more_results),
                ("dead", task.dead_letters),
            ):
                await jetstream.add_stream(
                    StreamConfig(
                        name=f"{task.id}-{name}",
                        subjects=subjects,
                        duplicate_window=DUPLICATE_WINDOW_S,
                    )
                )
            if task.durable:
                await jetstream.add_consumer(
                    task.id,
                    ConsumerConfig(
                        durable_name=f"{task.id}-reader",
                        ack_policy=AckPolicy.EXPLICIT,
                        ack_wait=ACK_WAIT_S,
                        max_ack_pending=100_000,
                        filter_subject=task.subject,
                    ),
                )
        await client.close()

    async def connect(self) -> Client:
        """The driver's own connection to NATS, past the proxies."""

        async def ignore(error: Exception) -> None:
            """Errors while the server restarts are what the run is about."""

        return await nats.connect(
            self.nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1,
            error_cb=ignore,
        )  # fmt: skip
