"""docker-compose.yml is safe to start on any machine, and its commands really work."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sinfer.embedded.child_process import free_port
from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.embedded.services import (
    BEAT_READY,
    INGEST_READY,
    WORKER_READY,
    Place,
    Readiness,
    Service,
    answers,
)

ROOT = Path(__file__).parents[2]
PASSWORDS = {"NATS_PASSWORD": "n4ts", "REDIS_PASSWORD": "r3dis", "FLOWER_PASSWORD": "fl0wer"}
OWN = ("samples", "ingest", "worker", "beat", "flower")
"""Services that run sinfer's image."""


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """What Compose makes of ``${NAME}``, ``${NAME:-default}`` and ``${NAME:?text}``."""

    def value_of(match: re.Match[str]) -> str:
        name, operator, word = match.groups()
        if values.get(name):
            return values[name]
        if operator == ":-":
            return str(word)
        raise ValueError(f"{name}: {word}")

    text = re.sub(r"\$\{([A-Z_]+)(?:(:-|:\?)([^}]*))?\}", value_of, text)
    return text.replace("$$", "$")


def load(values: Mapping[str, str] = PASSWORDS) -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text()
    services: dict[str, Any] = yaml.safe_load(interpolate(text, values))["services"]
    return services


SERVICES = load()


def test_it_has_every_part() -> None:
    assert {"nats", "redis", "model", "ingest", "worker", "beat", "flower"} <= SERVICES.keys()


@pytest.mark.parametrize("missing", PASSWORDS)
def test_no_password_has_a_default(missing: str) -> None:
    with pytest.raises(ValueError, match=f"{missing}: set it in .env"):
        load({name: value for name, value in PASSWORDS.items() if name != missing})
    assert re.search(f"^{missing}=$", (ROOT / ".env.example").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_open_to_this_machine_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", [name for name in SERVICES if name != "samples"])
def test_services_restart_and_have_time_to_stop(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["stop_grace_period"]


@pytest.mark.parametrize("name", [*OWN, "model"])
def test_sinfer_runs_without_rights_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "user" not in service


def test_services_have_health_checks() -> None:
    image_has_one = {name for name in OWN if "healthcheck" not in SERVICES[name]}
    assert image_has_one == {"ingest", "beat"}
    assert (ROOT / "Dockerfile").read_text().count("HEALTHCHECK") == 2
    for name in SERVICES.keys() - {"samples", *image_has_one}:
        assert SERVICES[name]["healthcheck"]["test"]


def test_the_image_asks_its_store(redis_server: RedisServer) -> None:
    text = (ROOT / "Dockerfile").read_text().rpartition("HEALTHCHECK")[2]
    _, *arguments = json.loads(text.partition("CMD ")[2].splitlines()[0])

    def ends_with(url: str) -> int:
        environment = {**os.environ, "SINFER_REDIS_URL": url}
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    assert ends_with(redis_server.url) == 0
    assert ends_with(f"redis://127.0.0.1:{free_port()}/0") != 0
    assert ends_with(f"sentinel://127.0.0.1:{free_port()}/primary/0") != 0


def test_the_image_runs_as_a_user_and_not_as_root() -> None:
    base = (ROOT / "Dockerfile").read_text().split("AS base")[1].split("FROM")[0]
    assert re.search(r"^USER \d{3,}$", base, re.MULTILINE)


def test_redis_is_durable_and_never_evicts() -> None:
    command = " ".join(SERVICES["redis"]["command"])
    for option in ("--appendonly yes", "--maxmemory-policy noeviction", "--requirepass"):
        assert option in command
    assert SERVICES["redis"]["volumes"] == ["redis-data:/data"]


def test_jetstream_is_on_a_volume_and_needs_the_password(tmp_path: Path) -> None:
    volumes = SERVICES["nats"]["volumes"]
    assert "nats-data:/data" in volumes
    assert "./docker/nats.conf:/etc/nats/nats.conf:ro" in volumes
    config = (ROOT / "docker" / "nats.conf").read_text()
    assert 'store_dir: "/data"' in config
    assert "password: $NATS_PASSWORD" in config


def test_passwords_stay_out_of_the_repository_and_of_images() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().startswith("*\n")
    assert not stat.S_IMODE((ROOT / ".env.example").stat().st_mode) & 0o111


class Deployment:
    """Embedded servers with the passwords of the compose file, and its services beside them."""

    def __init__(self, directory: Path, replacements: Mapping[str, str]) -> None:
        self.directory = directory
        self.replacements = replacements

    def localised(self, text: str) -> str:
        for remote, local in self.replacements.items():
            text = text.replace(remote, local)
        return text

    def service(self, name: str, ready: Readiness, directory: Path) -> Service:
        definition = SERVICES[name]
        environment = {
            variable: self.localised(str(value))
            for variable, value in definition.get("environment", {}).items()
        }
        command = [self.localised(word) for word in definition["command"]]
        place = Place(directory, {**os.environ, **environment}, cwd=directory)
        return Service(name, command, ready, place)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    directory = tmp_path_factory.mktemp("compose")
    authorization = f"authorization {{ user: sinfer, password: {PASSWORDS['NATS_PASSWORD']} }}"
    with (
        NatsServer(config=authorization) as nats,
        RedisServer(config={"requirepass": PASSWORDS["REDIS_PASSWORD"]}) as redis,
        ModelServer() as model,
    ):
        replacements = {
            "@nats:4222": f"@127.0.0.1:{nats.port}",
            "@redis:6379": f"@127.0.0.1:{redis.port}",
            "//model:8000": f"//127.0.0.1:{model.port}",
            "/data/": f"{directory}/",
            "/tmp/": f"{directory}/",
            "0.0.0.0": "127.0.0.1",
        }
        yield Deployment(directory, replacements)


def test_samples_are_published_once_and_for_all(deployment: Deployment, tmp_path: Path) -> None:
    service = deployment.service("samples", lambda process: not process.is_running, tmp_path)
    service.start()
    assert service.process.wait(60) == 0, service.process.tail()
    assert "published 1000 messages" in service.process.tail()


@pytest.mark.parametrize(
    ("name", "ready"),
    [("ingest", INGEST_READY), ("worker", WORKER_READY), ("beat", BEAT_READY)],
)
def test_a_service_becomes_ready_and_leaves_when_told(
    deployment: Deployment, tmp_path: Path, name: str, ready: Readiness
) -> None:
    service = deployment.service(name, ready, tmp_path)
    service.start()
    try:
        service.wait_until_ready()
        service.process.signal(15)
        assert service.process.wait(30) == 0, service.process.tail()
        assert not any(word in service.process.tail(1000) for word in PASSWORDS.values())
    finally:
        service.process.kill()


@pytest.mark.parametrize("name", ["model", "flower"])
def test_a_server_answers_its_own_health_check(
    deployment: Deployment, tmp_path: Path, name: str
) -> None:
    check = " ".join(SERVICES[name]["healthcheck"]["test"])
    found = re.search(r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", check)
    assert found is not None
    port = str(free_port())
    deployment = Deployment(deployment.directory, {**deployment.replacements, found[1]: port})
    ready = answers(f"http://127.0.0.1:{port}{found[2]}")
    service = deployment.service(name, ready, tmp_path)
    service.start()
    try:
        service.wait_until_ready()
    finally:
        service.stop()
