"""Secrets in every place that takes one, failures of each: nobody gets to read them."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading
import urllib.request
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import nats
import pytest
from kombu import Connection
from redis.asyncio import Redis

from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import NatsServer
from sinfer.store.keys import PartitionKeys
from tests.support.commands import run_sinfer
from tests.support.deployment import Connections, Deployment, numbers, wait_for_log
from tests.support.secured import acl_server
from tests.support.until import until

pytestmark = pytest.mark.e2e

MARK = "s3cr3t"
SECRET = f"{MARK}-in-the-open"
FORMS = (MARK, b64encode(f"me:{SECRET}".encode()).decode())


class Quoting(BaseHTTPRequestHandler):
    """Refuses everything, and quotes whatever it was sent but the body."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        status = int(self.path.split("/")[1])
        body = f"{self.headers['x-key']} {self.headers['authorization']} {self.path}".encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Quietly."""


@pytest.fixture(scope="module")
def quoting() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Quoting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"me:{SECRET}@127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, quoting: str) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("secrets")
    with Deployment(directory) as made:
        authorization = f"authorization {{ user: me, password: {SECRET} }}"
        made.nats = NatsServer(directory / "nats", config=authorization)
        made.redis = acl_server(
            directory / "redis", f"me on >{SECRET} ~* &* +@all", rdbcompression="no"
        )
        made.start_servers()
        made.variables |= {
            "SINFER_NATS_SERVERS": f"nats://me:{SECRET}@127.0.0.1:{made.nats.port}",
            "SINFER_REDIS_URL": f"redis://me:{SECRET}@127.0.0.1:{made.redis.port}/0",
            "SINFER_LOG_LEVEL": "DEBUG",
            "PLANTED": SECRET,
            "FLOWER_UNAUTHENTICATED_API": "true",
        }
        headers = {"X-Key": "${PLANTED}", "Authorization": f"Bearer {SECRET}"}
        limits = {"max_attempts": 1, "lease": "2s"}
        model = {"type": "json", "headers": headers}
        made.order(
            "refused",
            inference={**model, "url": f"http://{quoting}/422/?token={SECRET}"},
            limits=limits,
        )
        made.order(
            "locked", inference={**model, "url": f"http://{quoting}/401/", "retry_max": "50ms"}
        )
        away = f"me:{SECRET}@127.0.0.1:{free_port()}"
        wrong = f"me:{SECRET}-no@127.0.0.1"
        made.order(
            "sinks",
            sinks=[
                {"type": "http", "url": f"http://{quoting}/400/?key={SECRET}", "headers": headers}
            ],
            limits=limits,
        )
        made.order(
            "away",
            sinks=[
                {"type": "sql", "url": f"postgresql://{away}/db", "table": "t", "timeout": "1s"},
                {"type": "redis_stream", "url": f"redis://{wrong}:{made.redis.port}",
                 "stream": "s"},
                {"type": "jetstream", "servers": [f"nats://{wrong}:{made.nats.port}"],
                 "subject": "out.sinks"},
            ],
            limits=limits,
        )  # fmt: skip
        made.order("wrong", sinks=[{"type": "sql", "url": f"oracle://{away}/x", "table": "t"}])
        made.order("broken-pipeline")
        yield made


@pytest.fixture
async def connections(deployment: Deployment) -> AsyncIterator[Connections]:
    url = deployment.nats.url.replace("//", f"//me:{SECRET}@")
    connections = Connections(deployment, await nats.connect(url))
    for database, name in enumerate(("redis", "broker")):
        port = deployment.redis.port
        own = Redis(port=port, db=database, username="me", password=SECRET)
        setattr(connections, name, own)
    yield connections
    await connections.aclose()


def leaks(texts: dict[str, str]) -> dict[str, str]:
    """Places that show a secret, and how."""
    found = {}
    for place, text in texts.items():
        for form in FORMS:
            if (at := text.find(form)) >= 0:
                found[place] = text[max(0, at - 200) : at + 50]
    return found


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=60) as page:
        return str(page.read(), "utf-8")


def sinfer(deployment: Deployment, *command: str) -> str:
    """What a command prints, on both streams."""
    answer = run_sinfer(deployment, *command)
    return answer.out + answer.err


async def test_nobody_reads_a_secret_whatever_fails(
    deployment: Deployment, connections: Connections
) -> None:
    tasks = {name: deployment.order_of(name) for name in ("refused", "locked", "sinks", "away")}
    for task in tasks.values():
        await connections.make_streams(task)
        await connections.publish(task, numbers(0, 10))
    flower_port = free_port()
    worker, beat = deployment.worker(concurrency=1), deployment.beat()
    flower = deployment.flower(flower_port)
    deployment.variables["SINFER_LOG_FORMAT"] = "json"
    ingest = deployment.ingest()
    deployment.start(worker, beat, ingest, flower)

    async def all_failed() -> bool:
        dead = [len(await connections.dead_letters(tasks[name])) for name in ("refused", "sinks")]
        away: Any = await connections.redis.hkeys(PartitionKeys(tasks["away"].scope).outages)
        told = {name.split(b":")[1] for name in away}
        is_paused = await connections.redis.hlen("sinfer:paused") > 0
        return all(dead) and is_paused and len(told) == 3

    await until(all_failed, "every failure to be recorded", timeout_s=90)
    await wait_for_log(ingest, "a task is skipped")
    await send_pickle(deployment, worker, connections)
    flower.wait_until_ready()

    texts: dict[str, str] = {}
    for path in ("/api/workers?refresh=1", "/api/tasks", "/tasks", "/workers", "/broker"):
        url = f"http://127.0.0.1:{flower_port}{path}"
        texts[f"flower {path}"] = await asyncio.to_thread(read, url)
    for command in ("check", "status", "dlq list", "windows list", "audit"):
        texts[command] = sinfer(deployment, *command.split(), "--json")
    texts["audit for people"] = sinfer(deployment, "audit")
    assert texts["status"].count("windows wait") == 3, texts["status"]
    for audit in ("audit", "audit for people"):
        assert all(name in texts[audit] for name in tasks), texts[audit]
    letters = json.loads(texts["dlq list"])
    assert {letter["task"] for letter in letters} == {"refused", "sinks"}
    texts["dlq show"] = sinfer(deployment, "dlq", "show", letters[0]["id"], "--json")
    quoted = [letter["error"] for letter in letters if letter["task"] == "refused"]
    assert any("***" in error for error in quoted), quoted
    for service in (worker, beat, ingest, flower):
        service.stop()
        texts[service.name] = service.process.log.read_text()
    for client in (connections.redis, connections.broker):
        keys: list[Any] = await client.keys("*")
        texts |= {repr(key): repr(await client.dump(key)) for key in keys}
    assert not leaks(texts)


async def send_pickle(deployment: Deployment, worker: Any, connections: Connections) -> None:
    """A message that would run code if anyone unpickled it; the worker goes on without it."""
    written = deployment.directory / "pickled"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (written,)

    body = pickle.dumps(([Bomb()], {}, {}))
    url = deployment.variables["SINFER_REDIS_URL"].replace("/0", "/1")
    with Connection(url) as connection:
        connection.Producer().publish(
            body,
            routing_key="sinfer.tick",
            content_type="application/x-python-serialize",
            content_encoding="binary",
            headers={"task": "sinfer.tick", "id": "bomb", "lang": "py", "argsrepr": ""},
        )
    await wait_for_log(worker, "application/x-python-serialize")
    ticks = worker.process.log.read_text().count("sinfer.tick[")
    await wait_for_log(worker, "sinfer.tick[", times=ticks + 5)
    assert not written.exists()
