"""A task whose proxy or certificate authorities cannot be used is broken, and nothing else is."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from sinfer.embedded.services import program
from tests.integration.sinks.receiver import Receiver
from tests.support.deployment import Connections, Deployment, numbers, ordered
from tests.support.secured import Certificates, TlsProxy
from tests.support.until import until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

MESSAGES = 10


async def said(deployment: Deployment, *words: str) -> Any:
    """What a command writes, as JSON."""
    place = deployment.place

    def run() -> Any:
        finished = subprocess.run(
            [program("sinfer"), *words, "--json"],
            cwd=place.cwd, env=dict(place.environment), check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert "Traceback" not in finished.stderr
        return json.loads(finished.stdout)

    return await asyncio.to_thread(run)


async def trouble(deployment: Deployment, task_id: str) -> str:
    [standing] = await said(deployment, "status", "--task", task_id)
    return "\n".join(standing["trouble"])


async def test_what_cannot_be_made_of_the_environment_is_told_and_goes_on_once_it_can(
    deployment: Deployment, connections: Connections, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path / "certificates")
    authorities = tmp_path / "mounted-later.pem"
    deployment.variables |= {"SSL_CERT_FILE": str(authorities), "NO_PROXY": "127.0.0.1"}
    model = {"type": "v2", "model": "example", "retry_base": "50ms", "retry_max": "200ms"}
    with (
        Receiver() as receiver,
        TlsProxy(deployment.model.port, certificates, knows_clients=False) as secured,
        TlsProxy(urlsplit(receiver.url).port or 0, certificates, knows_clients=False) as behind,
    ):
        url = f"https://127.0.0.1:{secured.port}"
        parts: dict[str, dict[str, Any]] = {
            "trust": {"inference": {**model, "url": url}},
            "sink": {"sinks": [{"type": "http", "url": f"https://127.0.0.1:{behind.port}"}]},
            "proxied": {
                "inference": {
                    **model,
                    "url": deployment.model.url,
                    "proxy": "http://me:hunter2@127.0.0.1:1",
                }
            },
            "fine": {},
        }
        tasks = {id: await ordered(deployment, connections, id, **parts[id]) for id in parts}
        for task in tasks.values():
            await connections.publish(task, numbers(0, MESSAGES))
        worker = deployment.worker(concurrency=1)
        deployment.start(deployment.ingest(), worker, deployment.beat())
        await connections.settled(tasks["fine"], MESSAGES)

        missing = f"SSL_CERT_FILE: there is no file '{authorities}'"
        through = "through the proxy http://127.0.0.1:1 of inference.proxy"
        for id, reason in (("trust", missing), ("sink", missing), ("proxied", through)):

            async def is_told(id: str = id, reason: str = reason) -> bool:
                return reason in await trouble(deployment, id)

            await until(is_told, f"the status to tell of {id}")
        log = worker.process.log.read_text()
        assert log.count(f"counting/trust/in.trust: {missing}") == 1, log
        assert "Traceback" not in log
        findings = await said(deployment, "check", "--product", deployment.product)
        told = [finding["text"] for finding in findings if finding["verdict"] != "ok"]
        assert sum(missing in text for text in told) == 2, told
        assert "hunter2" not in log + json.dumps(findings)

        shutil.copy(certificates.ca, authorities)
        for id in ("trust", "sink"):
            account = await connections.settled(tasks[id], MESSAGES)
            assert (account.sunk, account.dead) == (MESSAGES, 0)
            assert missing not in await trouble(deployment, id)
