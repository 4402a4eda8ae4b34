"""A deployment where every server demands credentials and TLS, and grants what the docs list."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from redis.asyncio import Redis

from sinfer.embedded.servers import NatsServer
from sinfer.embedded.services import program
from tests.support.deployment import Connections, Deployment, numbers, wait_for_log
from tests.support.documents import ROOT, Document
from tests.support.secured import Certificates, Nkey, TlsProxy, acl_server

pytestmark = pytest.mark.e2e

GUIDE = ROOT / "docs" / "security.md"


class Site:
    """The deployment, and what its processes and the test show to its servers."""

    def __init__(self, directory: Path) -> None:
        self.certificates = Certificates(directory / "certificates")
        self.keys = {name: Nkey("user") for name in ("INGEST", "WORKER")}
        for name, key in self.keys.items():
            (directory / name).write_text(key.seed)
        self.deployment = Deployment(directory)
        self.deployment.nats = NatsServer(directory / "nats", config=self._nats_config())
        users = Document(GUIDE).blocks("acl")[0].splitlines()
        self.deployment.redis = acl_server(
            directory / "redis",
            "admin on >admin ~* &* +@all",
            *(user.removeprefix("user ") for user in users if "default" not in user),
        )
        self.task = self.deployment.order("IN")

    def _nats_config(self) -> str:
        [block] = Document(GUIDE).blocks("nats")
        for name, key in self.keys.items():
            block = block.replace(f"nkey: {name}", f"nkey: {key.public}")
        block = block.replace("STREAM.INFO.OUT", "STREAM.INFO.IN-out")
        block = block.replace("users: [", "users: [\n{user: admin, password: admin}")
        return block + self.certificates.nats(verify=True)

    def told(self, role: str, redis_port: int) -> dict[str, str]:
        """The settings of a process of a role, ``INGEST`` or ``WORKER``."""
        place = f"127.0.0.1:{redis_port}"
        return {
            "SINFER_PRODUCTS": self.deployment.product,
            "SINFER_NATS_SERVERS": f"tls://127.0.0.1:{self.deployment.nats.port}",
            "SINFER_NATS_NKEY_SEED": str(self.deployment.directory / role),
            "SINFER_NATS_TLS_CA": str(self.certificates.ca),
            "SINFER_NATS_TLS_CERT": str(self.certificates.client),
            "SINFER_REDIS_URL": f"rediss://sinfer:WINDOWS@{place}/0",
            "SINFER_BROKER_URL": f"rediss://broker:HINTS@{place}/1",
            "SINFER_REDIS_TLS_CA": str(self.certificates.ca),
            "SINFER_REDIS_TLS_CERT": str(self.certificates.client),
        }


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("secured"))
    with site.deployment:
        site.deployment.start_servers()
        yield site


@pytest.fixture
async def admin(site: Site) -> AsyncIterator[Connections]:
    """The test's own connections, which may do everything."""
    client = await nats.connect(
        site.deployment.nats.url,
        user="admin",
        password="admin",
        tls=site.certificates.client_context(),
    )
    connections = Connections(site.deployment, client)
    for database, name in enumerate(("redis", "broker")):
        port = site.deployment.redis.port
        own = Redis(port=port, db=database, username="admin", password="admin")
        setattr(connections, name, own)
    yield connections
    await connections.aclose()


def run(site: Site, role: str, port: int, *command: str) -> subprocess.CompletedProcess[str]:
    place = site.deployment.place
    return subprocess.run(
        [program(command[0]), *command[1:]],
        env={**place.environment, **site.told(role, port)},
        cwd=place.cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_all_of_it_works_with_the_permissions_that_are_documented(
    site: Site, admin: Connections
) -> None:
    deployment, task = site.deployment, site.task
    await admin.make_streams(task)
    await admin.publish(task, numbers(0, 55))
    with TlsProxy(deployment.redis.port, site.certificates) as proxy:
        deployment.variables = site.told("INGEST", proxy.port)
        ingest, beat = deployment.ingest(), deployment.beat()
        deployment.variables = site.told("WORKER", proxy.port)
        worker = deployment.worker(concurrency=1)
        deployment.start(ingest, worker, beat)
        await admin.settled(task, 55, timeout_s=90)
        await admin.assert_one_result_each(task, range(55))

        found = run(
            site, "INGEST", proxy.port, "sinfer", "check", "--product", "counting", "--json"
        )
        checked = {entry["what"]: entry for entry in json.loads(found.stdout)}
        for part in ("redis", "broker"):
            assert checked[part]["verdict"] == "ok", found.stdout
        for command in ("status", "audit"):
            found = run(site, "INGEST", proxy.port, "sinfer", command, "--json")
            assert found.returncode == 0, (command, found.stderr)
            json.loads(found.stdout)
        for service in (ingest, worker, beat):
            service.stop()
            text = service.process.log.read_text()
            assert not any(key.seed in text for key in site.keys.values())
            for word in ("WINDOWS", "HINTS", "ermission", "Traceback"):
                assert word not in text, (service.name, text[-3000:])
    denied = await admin.redis.acl_log()
    assert not denied


async def test_a_wrong_key_ends_a_command_and_is_told_by_ingest(site: Site, tmp_path: Path) -> None:
    (site.deployment.directory / "STRANGER").write_text(Nkey("user").seed)
    with TlsProxy(site.deployment.redis.port, site.certificates) as proxy:
        command = ("sinfer", "publish", "--product", "counting", "--input", "/dev/null")
        found = run(site, "STRANGER", proxy.port, *command)
        assert found.returncode == 3
        assert found.stderr.count("\n") == 1, found.stderr
        assert "refuses the nkey of SINFER_NATS_NKEY_SEED" in found.stderr
        site.deployment.variables = site.told("STRANGER", proxy.port)
        ingest = site.deployment.ingest()
        site.deployment.start(ingest)
        await wait_for_log(ingest, "refuses the nkey of SINFER_NATS_NKEY_SEED")
        ingest.stop()


async def test_a_wrong_password_for_redis_ends_ingest_at_its_start(site: Site) -> None:
    with TlsProxy(site.deployment.redis.port, site.certificates) as proxy:
        told = site.told("INGEST", proxy.port)
        told["SINFER_REDIS_URL"] = told["SINFER_REDIS_URL"].replace("WINDOWS", "hunter2")
        site.deployment.variables = told
        ingest = site.deployment.ingest()
        site.deployment.start(ingest)
        assert ingest.process.wait(60) == 3
        text = ingest.process.log.read_text()
    assert "refuses the user or password" in text
    assert "hunter2" not in text
    assert "Traceback" not in text
