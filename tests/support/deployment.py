"""A deployment for tests: servers, sinfer's own processes, a product with tasks to order from.

Tests wait for what must happen with `wait_for`, and add up what became of all messages with
`Account`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.servers import EmbeddedServer, NatsServer, RedisServer
from sinfer.embedded.services import (
    Place,
    Service,
    beat_service,
    flower_service,
    ingest_service,
    worker_service,
)
from sinfer.store import keys
from sinfer.store.keys import PartitionKeys
from sinfer.windows.dead_letters import DeadLetter, unpack_dead_letter
from sinfer.windows.ids import Scope
from sinfer.windows.records import unpack_record
from tests.support.until import until

PATIENCE_S = 30.0
"""Far above what anything here takes: a test that waits so long has failed."""

PRODUCT = '''
"""Numbers: {{"id": n}} becomes {{"id": n, "y": n}}, by way of the model."""

import json
from pathlib import Path

from sinfer import InferPipeline, InferTaskConfig, Product, Result, TaskManager


class FileTasks(TaskManager[InferTaskConfig]):
    refresh = 0.2

    def list_tasks(self):
        return json.loads(Path({path!r}).read_text())


class Pipeline(InferPipeline[InferTaskConfig, dict]):
    def __init__(self, task):
        super().__init__(task)
        if task.id.startswith("broken"):
            raise RuntimeError("this pipeline cannot be made")

    def preprocess(self, message):
        item = json.loads(message.data)
        return None if item["id"] < 0 else item

    def key(self, item):
        return item.get("key", "all")

    def event_time(self, item):
        return item.get("time")

    def build_request(self, window):
        data = [float(item["id"]) for item in window for _ in range(16)]
        return {{
            "inputs": [
                {{"name": "x", "shape": [len(window), 16], "datatype": "FP32", "data": data}}
            ]
        }}

    def build_results(self, window, response):
        return [
            Result({{"id": item["id"], "y": y, "key": window.key, "start": window.start,
                    "reason": window.close_reason, "size": len(window.messages)}})
            for item, y in zip(window, response.outputs["y"], strict=True)
        ]


product = Product({name!r}, tasks=FileTasks(), pipeline=Pipeline)
'''


def environment_without_settings() -> dict[str, str]:
    """The variables of this process, without those of sinfer."""
    return {name: value for name, value in os.environ.items() if "SINFER_" not in name}


class Deployment:
    """NATS, Redis and the model server for the tests of one module, and what runs on them.

    All of it ends with the ``with`` block.

    Args:
        directory: takes all files.
        redis_config: further options of the Redis server.

    Attributes:
        product: the name of the product, which is that of its module as well.
    """

    def __init__(self, directory: Path, redis_config: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.product = "counting"
        self.nats = NatsServer(directory / "nats")
        self.redis = RedisServer(directory / "redis", config=redis_config)
        self.model = ModelServer(directory / "model")
        self.variables: dict[str, str] = {"SINFER_PRODUCTS": self.product}
        self._tasks: dict[str, dict[str, Any]] = {}
        self._task_file = directory / "tasks.json"
        self._write_tasks()
        text = PRODUCT.format(path=str(self._task_file), name=self.product)
        (directory / f"{self.product}.py").write_text(text)
        self._ending = ExitStack()
        self._count = 0

    def start_servers(self, *servers: EmbeddedServer) -> None:
        """Start these servers, or all that do not run."""
        for server in servers or (self.nats, self.redis, self.model):
            if not server.process.is_running:
                self._ending.callback(server.stop)
                server.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._ending.close()

    # --- processes ---

    @property
    def place(self) -> Place:
        """Where sinfer's processes run: outside the repository, beside the product."""
        environment = {
            **environment_without_settings(),
            "SINFER_NATS_SERVERS": self.nats.url,
            "SINFER_REDIS_URL": self.redis.url,
            **self.variables,
        }
        return Place(self.directory, environment, cwd=self.directory)

    def ingest(self, product: str | None = None) -> Service:
        return ingest_service(self.place, product or self.product, name=self._name("ingest"))

    def worker(self, *options: str, concurrency: int = 2) -> Service:
        name = self._name("worker")
        return worker_service(self.place, concurrency=concurrency, name=name, options=options)

    def beat(self) -> Service:
        return beat_service(self.place, name=self._name("beat"))

    def flower(self, port: int) -> Service:
        return flower_service(self.place, port, name=self._name("flower"))

    def start(self, *services: Service) -> None:
        """Start processes side by side; they are killed at the latest when the module ends."""
        for service in services:
            self._ending.callback(service.process.kill)
            service.start()

    @contextmanager
    def running(self, *services: Service) -> Iterator[list[Service]]:
        """Start processes; at the end of the ``with`` block each must still be well.

        Yields:
            The processes, in a list: who replaces one by another puts that into it.
        """
        self.start(*services)
        running = [*services]
        yield running
        for service in running:
            service.check()

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"

    # --- tasks ---

    def order(self, task_id: str, **parts: Any) -> Task:
        """Add a task to the product. Processes that run notice by themselves.

        Args:
            task_id: its id; its stream is called so as well.
            parts: what differs from the usual: count windows of 10, the v2 model, one SQL sink and
                one JetStream sink.
        """
        task = Task(self, task_id)
        self._tasks[task_id] = {
            "id": task_id,
            "source": {"stream": task_id, "subject": task.subject, "batch": 100},
            "window": {"type": "count", "count": 10, "max_wait": "1s"},
            "inference": {
                "type": "v2",
                "url": self.model.url,
                "model": "example",
                "retry_base": "50ms",
                "retry_max": "200ms",
            },
            "sinks": [{"type": "jetstream", "subject": task.results}, task.sql],
            "limits": {"lease": "2s"},
        } | parts
        self._write_tasks()
        return task

    def order_of(self, task_id: str) -> Task:
        """A task that was ordered."""
        assert task_id in self._tasks
        return Task(self, task_id)

    def withdraw(self, task: Task) -> None:
        """Take a task off the product."""
        del self._tasks[task.id]
        self._write_tasks()

    def _write_tasks(self) -> None:
        """Write the list of tasks so that nobody reads half of it."""
        draft = self._task_file.with_suffix(".draft")
        draft.write_text(json.dumps(list(self._tasks.values())))
        draft.replace(self._task_file)


class Subjects:
    """Where a task reads and writes: all is named after it."""

    id: str

    @property
    def subject(self) -> str:
        return f"in.{self.id}"

    @property
    def results(self) -> str:
        """The subject of its JetStream sink, in a stream of its own."""
        return f"out.{self.id}"


@dataclass(frozen=True)
class Task(Subjects):
    """A task of the product, and what tests want to know of it."""

    deployment: Deployment
    id: str

    @property
    def database(self) -> Path:
        return self.deployment.directory / f"{self.id}.sqlite"

    @property
    def sql(self) -> dict[str, Any]:
        """Its SQL sink."""
        return {"type": "sql", "url": f"sqlite:///{self.database}", "table": "results"}

    @property
    def scope(self) -> Scope:
        return Scope(self.deployment.product, self.id, self.subject)


@dataclass(frozen=True)
class Account:
    """What became of the messages of a partition (design guarantee 6)."""

    fetched: int
    sunk: int
    dead: int
    filtered: int
    late: int
    held: int
    """Messages in open, closed and leased windows."""

    @property
    def balances(self) -> bool:
        return self.fetched == self.sunk + self.dead + self.filtered + self.late + self.held


class Connections:
    """A test's own connections to the servers of a deployment."""

    def __init__(self, deployment: Deployment, client: Client) -> None:
        self.deployment = deployment
        self.nats = client
        self.redis = _redis(deployment, 0)
        self.broker = _redis(deployment, 1)

    @classmethod
    async def open(cls, deployment: Deployment) -> Connections:
        """Connect so that a restart of a server is survived."""
        return cls(
            deployment,
            await nats.connect(
                deployment.nats.url,
                max_reconnect_attempts=-1,
                reconnect_time_wait=1,
                error_cb=_ignore,
            ),
        )

    async def aclose(self) -> None:
        await self.nats.close()
        await self.redis.aclose()
        await self.broker.aclose()

    @property
    def jetstream(self) -> JetStreamContext:
        return self.nats.jetstream()

    # --- what goes in ---

    async def make_streams(self, task: Task) -> None:
        """Its source, and the stream that takes its results."""
        await self.jetstream.add_stream(name=task.id, subjects=[task.subject])
        await self.jetstream.add_stream(name=f"{task.id}-out", subjects=[task.results])

    async def publish(self, task: Task, messages: Iterable[Mapping[str, Any] | bytes]) -> None:
        """Publish messages and have each of them confirmed."""
        for message in messages:
            data = message if isinstance(message, bytes) else json.dumps(message).encode()
            await self.jetstream.publish(task.subject, data)

    async def publish_surely(self, task: Task, messages: Iterable[Mapping[str, Any]]) -> None:
        """Publish messages of different ids, each of them once, whatever befalls the server."""
        for message in messages:
            data, headers = json.dumps(message).encode(), {"Nats-Msg-Id": str(message["id"])}
            for _ in range(30):
                with suppress(NatsError):
                    await self.jetstream.publish(task.subject, data, timeout=1, headers=headers)
                    break
            else:
                raise AssertionError(f"{message} cannot be published")

    async def process(self, task: Task, first: int, last: int) -> None:
        """Publish messages with these ids, and wait until all that came so far is processed."""
        await self.publish(task, numbers(first, last))
        await self.settled(task, last)

    # --- what comes out ---

    async def results(self, task: Task) -> list[dict[str, Any]]:
        """All results in the task's JetStream sink."""
        stream = f"{task.id}-out"
        expected = (await self.jetstream.stream_info(stream)).state.messages
        config = ConsumerConfig(ack_policy=AckPolicy.NONE)
        subscription = await self.jetstream.pull_subscribe(
            task.results, stream=stream, config=config
        )
        found: list[dict[str, Any]] = []
        try:
            while len(found) < expected:
                messages = await subscription.fetch(expected - len(found), timeout=2)
                found += [json.loads(message.data) for message in messages]
        except NatsTimeoutError:
            raise AssertionError(f"{stream} gave {len(found)} of {expected} messages") from None
        finally:
            await subscription.unsubscribe()
        return found

    async def account(self, task: Task) -> Account:
        """The account of the task's partition, read in one step."""
        names = PartitionKeys(task.scope)
        pipeline = self.redis.pipeline(transaction=True)
        pipeline.hgetall(names.meta)
        pipeline.hvals(names.open)
        pipeline.hvals(names.closed)
        meta, opened, closed = await pipeline.execute()
        counts = {name: int(meta.get(name.encode(), 0)) for name in _COUNTS}
        held = sum(unpack_record(blob).count for blob in opened)
        held += sum(unpack_record(value.split(b" ", 2)[2]).count for value in closed)
        return Account(**counts, held=held)

    async def owner(self, task: Task) -> str | None:
        """The ingestor that holds the task's partition."""
        owner: Any = await self.redis.hget(PartitionKeys(task.scope).meta, "owner")
        return None if owner is None else str(owner, "ascii")

    async def dead_letters(self, task: Task) -> list[DeadLetter]:
        """The dead letters of the task's partition."""
        entries: Any = await self.redis.xrange(PartitionKeys(task.scope).dead)
        return [unpack_dead_letter(fields[b"letter"]) for _, fields in entries]

    async def scopes(self) -> set[Scope]:
        """All partitions that beat knows."""
        names: Any = await self.redis.smembers(keys.PARTITIONS)
        return {Scope.parse(name.decode()) for name in names}

    async def fetched(self, task: Task, messages: int) -> None:
        """Wait until so many messages were fetched, whatever becomes of them."""

        async def are_fetched() -> bool:
            return (await self.account(task)).fetched >= messages

        await until(are_fetched, f"{messages} messages to be fetched")

    async def settled(self, task: Task, messages: int, timeout_s: float = PATIENCE_S) -> Account:
        """Wait until so many messages were fetched and all of them came to an end."""
        account = await self.account(task)

        async def is_settled() -> bool:
            nonlocal account
            account = await self.account(task)
            assert account.balances, account
            return account.fetched >= messages and account.held == 0

        await until(is_settled, f"all {messages} messages to be processed", timeout_s)
        assert account.fetched == messages, account
        return account

    async def settled_at_least(self, task: Task, messages: int) -> None:
        """Wait until so many messages came to an end, whatever follows behind them."""

        async def are_settled() -> bool:
            account = await self.account(task)
            assert account.balances, account
            return account.fetched - account.held >= messages

        await until(are_settled, f"{messages} messages to be processed")

    async def assert_one_result_each(self, task: Task, ids: Iterable[int]) -> None:
        """Each of the ids has exactly one correct result in each sink, and nobody else has any."""
        expected = Counter(ids)
        in_stream = await self.results(task)
        assert Counter(result["id"] for result in in_stream) == expected
        in_table = rows(task)
        assert Counter(result["id"] for result in in_table) == expected
        for result in (*in_stream, *in_table):
            assert result["y"] == result["id"]


_COUNTS = ("fetched", "sunk", "dead", "filtered", "late")


def _redis(deployment: Deployment, database: int) -> Redis:
    return Redis(
        port=deployment.redis.port,
        db=database,
        retry=Retry(ConstantBackoff(0.1), 50),
        retry_on_error=[RedisConnectionError],
    )


async def _ignore(error: Exception) -> None:
    """Errors while a server restarts are what the test is about."""


async def ordered(deployment: Deployment, connections: Connections, id: str, **parts: Any) -> Task:
    """A task whose streams are there before it is; see ``Deployment.order``."""
    await connections.make_streams(Task(deployment, id))
    return deployment.order(id, **parts)


def rows(task: Task) -> list[dict[str, Any]]:
    """All results in the task's SQL table."""
    from sinfer.demo.database import read_rows

    return [dict(row) for row in read_rows(task.database, "results")]


def numbers(first: int, last: int, **fields: Any) -> list[dict[str, Any]]:
    """Messages with the ids from ``first`` to ``last``, exclusive."""
    return [{"id": n, **fields} for n in range(first, last)]


async def wait_for_log(service: Service, text: str, times: int = 1) -> None:
    """Wait until a process has logged a text so many times."""
    log = service.process.log
    await until(lambda: log.read_text().count(text) >= times, f"{service.name} to log {text!r}")
