"""A real Flower shows windows by product and task, and neither ticks nor what begins the work."""

from __future__ import annotations

import ast
import json
import urllib.request
from typing import Any

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import Service
from tests.support.deployment import Connections, Deployment, numbers, ordered
from tests.support.until import until

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def flower(deployment: Deployment) -> str:
    """The address of a Flower beside all other processes; it asks the worker for events."""
    deployment.variables["FLOWER_UNAUTHENTICATED_API"] = "true"
    port = free_port()
    services: list[Service] = [
        deployment.ingest(), deployment.worker(), deployment.beat(), deployment.flower(port),
    ]  # fmt: skip
    deployment.start(*services)
    for service in services[1:]:
        service.wait_until_ready()
    return f"http://127.0.0.1:{port}"


def shown(flower: str) -> list[dict[str, Any]]:
    """The tasks that it has."""
    with urllib.request.urlopen(f"{flower}/api/tasks?limit=10000", timeout=10) as answer:
        return list(json.load(answer).values())


async def test_windows_are_shown_with_what_became_of_them(
    deployment: Deployment, connections: Connections, flower: str
) -> None:
    task = await ordered(deployment, connections, "shown")
    name = f"{deployment.product}/{task.id}"
    sent = 0

    async def are_shown() -> bool:
        nonlocal sent  # what is processed before the worker has heard of Flower is not shown
        await connections.publish(task, numbers(sent, sent + 10))
        sent += 10
        found = [window["state"] for window in shown(flower) if window["name"] == name]
        return found.count("SUCCESS") >= 3

    await until(are_shown, "three windows to be shown", 60)
    windows = [window for window in shown(flower) if window["name"] == name]
    ids = set()
    for window in windows:
        arguments = ast.literal_eval(window["kwargs"])
        ids.add(arguments["window"])
        assert arguments["product"] == deployment.product
        assert arguments["task"] == task.id
        assert arguments["window"].startswith(f"{task.id}/")
        assert window["worker"].startswith("worker")
        if window["state"] == "SUCCESS":
            assert window["result"] == f"{arguments['messages']} results"
            assert 0 < window["runtime"] < 60
    assert len(ids) == len(windows)
    assert {window["name"] for window in shown(flower)} == {name}


async def test_a_window_that_is_given_up_is_shown_as_failed(
    deployment: Deployment, connections: Connections, flower: str
) -> None:
    task = await ordered(deployment, connections, "failing", window={"type": "count", "count": 1})
    name = f"{deployment.product}/{task.id}"
    deployment.model.order({"status": 400, "value": 13.0, "count": None})

    def failed() -> list[dict[str, Any]]:
        return [
            window for window in shown(flower)
            if window["name"] == name and window["state"] == "FAILURE"
        ]  # fmt: skip

    async def is_shown() -> bool:
        await connections.publish(task, [{"id": 13}, {"id": 14}])
        return bool(failed())

    await until(is_shown, "a failed window to be shown", 60)
    deployment.model.reset()
    assert "400" in failed()[0]["exception"]


async def test_a_port_that_is_taken_is_told_with_the_setting_that_moves_it(
    deployment: Deployment, flower: str
) -> None:
    port = int(flower.rpartition(":")[2])
    another = deployment.flower(port)
    another.process.start()
    assert another.process.wait(60) != 0
    log = another.process.log.read_text()
    assert f"Error: port {port} is taken" in log
    assert "--port or FLOWER_PORT names another port" in log
    assert "Traceback" not in log
