"""The commands of the troubleshooting guide work on a product that runs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from sinfer import exit_codes
from sinfer.embedded.servers import NatsServer, RedisServer
from sinfer.embedded.services import program
from tests.support.documents import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.long]

GUIDE = (ROOT / "docs" / "troubleshooting.md").read_text()
SHOWN = [
    line.replace(" --watch", "")
    for block in re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL)
    for line in block.splitlines()
]


def test_what_it_shows_can_be_typed(tmp_path: Path) -> None:
    with NatsServer() as nats, RedisServer() as redis:
        environment = {
            **os.environ,
            "SINFER_PRODUCTS": "example",
            "SINFER_NATS_SERVERS": nats.url,
            "SINFER_REDIS_URL": redis.url,
            "EXAMPLE_DATABASE_URL": f"sqlite:///{tmp_path / 'results.sqlite'}",
        }

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [program(command[0]), *command[1:]],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        published = run("python", "-m", "sinfer.products.example.publish", "--messages", "20")
        assert published.returncode == 0, published.stderr
        for line in dict.fromkeys(SHOWN):
            done = run(*line.split())
            told = done.stdout + done.stderr
            assert "Traceback" not in told, f"{line}\n{told}"
            # There is no model, and nothing was ingested: that is told, and no mistake.
            assert done.returncode in (
                exit_codes.OK,
                exit_codes.FAILED,
                exit_codes.UNREACHABLE,
            ), f"{line}: {done.returncode}\n{told}"
