"""Tests wait for what happens, never for time to pass: who sleeps is listed, with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_SLEEP = {
    "e2e/test_partitions_change.py": "messages that come one after the other",
    "e2e/test_jetstream_cluster.py": "servers that are away for a while",
    "support/until.py": "waits for what comes true; everybody else asks it",
    "support/scripted_model.py": "a model that is slow",
    "support/paid_model.py": "a model that is slow",
    "integration/worker/test_calls_side_by_side.py": "a model that is slow",
    "integration/worker/test_endpoint_places.py": "a model that is slow",
    "integration/worker/test_shared_calls.py": "a model that is slow; windows that come in turn",
    "support/fake_source.py": "a source on which nothing comes",
    "integration/inference/test_v2_grpc.py": "a model that is slow",
    "integration/inference/test_mlserver.py": "leaves connections idle, which the server closes",
    "integration/ingest/fatal_pipeline.py": "a product whose hook never returns",
    "integration/ingest/test_removals.py": "a reader that nobody asks for a while",
    "integration/ingest/test_supervisor.py": "a product whose hook is slow",
    "integration/sinks/test_http.py": "a receiver that sends a byte at a time",
    "unit/worker/test_event_loop.py": "a task that lasts, to be cancelled or not",
    "e2e/test_broker_restarts.py": "messages come at a steady pace; an outage lasts",
    "e2e/test_hostile_ingest.py": "a supervisor, which starts again what ended",
    "e2e/test_kills.py": "messages come at a steady pace",
    "e2e/test_pressure.py": "samples the memory as long as the test lasts",
    "e2e/test_redis_refuses.py": "a trouble of Redis, which lasts",
    "e2e/test_stopping.py": "messages come at a steady pace",
    "chaos/load.py": "messages come at a steady pace",
    "chaos/power_loss.py": "samples a file as long as the storm lasts",
    "chaos/product.py": "a product whose hook blocks",
    "chaos/proxy.py": "a network that is slow",
    "chaos/recovery.py": "measures how long a recovery takes, and reports instead of failing",
    "chaos/storm.py": "faults last and come by chance; it reports instead of failing",
    "chaos/wiping_storm.py": "sees that it stays quiet, and reports instead of failing",
}
"""Files of tests that sleep, and why."""


def sleeps(tree: ast.Module) -> Iterator[int]:
    """The lines that wait for some time; ``sleep(0)`` only lets others run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "sleep":
            length = node.args[0] if node.args else None
            if not (isinstance(length, ast.Constant) and length.value == 0):
                yield node.lineno


FOUND = {
    str(path.relative_to(ROOT)): [*sleeps(ast.parse(path.read_text()))]
    for path in sorted(ROOT.rglob("*.py"))
}


def test_nobody_else_sleeps() -> None:
    found = {name: lines for name, lines in FOUND.items() if lines and name not in MAY_SLEEP}
    assert found == {}


@pytest.mark.parametrize("name", MAY_SLEEP)
def test_who_may_sleep_does(name: str) -> None:
    assert FOUND[name]
