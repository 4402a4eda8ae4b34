"""Processes of this version and of an earlier one work side by side, and either replaces the other.

The earlier version is the last one before partitions noted their format; it comes from the history
of this repository.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sinfer.embedded.services import Service
from tests.support.deployment import Connections, Deployment, numbers, ordered
from tests.support.until import until

pytestmark = [pytest.mark.integration, pytest.mark.long]

ROOT = Path(__file__).parents[2]
EARLIER = "5e75c6e89d1c9de0ceb4743413de075addd8eeff"
EACH = 63
"""Messages for each step; windows of ten leave some that only beat closes."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the earlier version."""
    archive = subprocess.run(
        ["git", "archive", EARLIER, "sinfer", "beat_schedule.py"], cwd=ROOT, capture_output=True
    )
    if archive.returncode:
        pytest.skip(f"this clone does not have commit {EARLIER[:8]}: {archive.stderr.decode()}")
    place = tmp_path_factory.mktemp("earlier")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as found:
        found.extractall(place, filter="data")
    return place


@pytest.mark.parametrize("is_upgrade", [True, False], ids=["upgrade", "way-back"])
@pytest.mark.parametrize("ack", ["stored", "done"])
async def test_versions_replace_one_another_process_by_process(
    tmp_path: Path, earlier: Path, is_upgrade: bool, ack: str
) -> None:
    first, second = (earlier, ROOT) if is_upgrade else (ROOT, earlier)
    with Deployment(tmp_path) as deployment:
        deployment.start_servers()
        kinds: list[Callable[[], Service]] = [
            deployment.worker, deployment.beat, deployment.ingest,
        ]  # fmt: skip

        def of_version(code: Path, kind: Callable[[], Service]) -> Service:
            deployment.variables["PYTHONPATH"] = f"{code}:{deployment.directory}"
            return kind()

        running = [of_version(first, kind) for kind in kinds]
        connections = await Connections.open(deployment)
        try:
            name = f"rolling-{ack}"
            source = {"stream": name, "subject": f"in.{name}", "batch": 20, "ack": ack}
            task = await ordered(deployment, connections, name, source=source)
            deployment.start(*running)
            for service in running:
                service.wait_until_ready()
            published = 0

            async def publish() -> None:
                nonlocal published
                await connections.publish(task, numbers(published, published + EACH))
                published += EACH

            await publish()
            for place, kind in enumerate(kinds):
                successor = of_version(second, kind)
                deployment.start(successor)
                await publish()
                if kind != deployment.ingest:  # an ingestor is ready when it has the partition
                    successor.wait_until_ready()
                await publish()
                running[place].stop()
                running[place] = successor
                await publish()
                successor.wait_until_ready()
            await connections.settled(task, published)
            await connections.assert_one_result_each(task, range(published))
            assert await connections.dead_letters(task) == []

            async def all_runs_on() -> bool:
                return all(service.process.is_running for service in running)

            await until(all_runs_on)
        finally:
            await connections.aclose()
