"""What `from sinfer import ...` offers: the names that products may rely on, and no others."""

from __future__ import annotations

import subprocess
import sys

import sinfer

NAMES = {
    # a product
    "Product", "InferPipeline", "InferTaskConfig", "JetStreamSource",
    "Message", "Window", "Result",
    # where tasks come from
    "TaskManager", "StaticTaskManager", "YamlTaskManager", "SqlTaskManager", "NatsKvTaskManager",
    "BrokenTask",
    # parts that a product may ship
    "InferenceClient", "InferenceConfig", "Sink", "SinkConfig", "ResultRow", "WindowResults",
    # errors
    "SinferError", "ConfigError", "InvalidItemError", "UnavailableError",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(sinfer.__all__) == NAMES


def test_all_of_them_are_there_and_documented() -> None:
    for name in NAMES:
        assert getattr(sinfer, name).__doc__, name


def test_importing_sinfer_loads_neither_celery_nor_a_database() -> None:
    code = (
        "import sinfer, sys; "
        "print([m for m in ('celery', 'sqlalchemy', 'numpy') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
