"""Commands of ``sinfer`` beside a deployment, as processes of their own, as people run them."""

from __future__ import annotations

import asyncio
import json
import subprocess
from dataclasses import dataclass
from typing import Any

from sinfer.embedded.services import program
from tests.support.deployment import Deployment

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Completed:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


def run_sinfer(deployment: Deployment, *arguments: str) -> Completed:
    """Run a command to its end; it has no traceback."""
    place = deployment.place
    done = subprocess.run(
        [program("sinfer"), *arguments], cwd=place.cwd, env=dict(place.environment),
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return Completed(done.returncode, done.stdout, done.stderr)


async def sinfer(deployment: Deployment, *arguments: str) -> Completed:
    """As ``run_sinfer``, while the test's own event loop goes on."""
    return await asyncio.to_thread(run_sinfer, deployment, *arguments)
