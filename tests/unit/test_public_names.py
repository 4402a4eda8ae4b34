"""What `from sinfer import ...` offers: the names that products may rely on, and no others."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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
    "Checked", "Confirmed",
    # errors
    "SinferError", "ConfigError", "InvalidItemError", "UnavailableError",
}  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert set(sinfer.__all__) == NAMES


def test_all_of_them_are_there_and_documented() -> None:
    for name in NAMES:
        assert getattr(sinfer, name).__doc__, name


def test_type_checkers_know_the_same_names() -> None:
    tree = ast.parse(Path(sinfer.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    told = {name.name: node.module for node in imports for name in node.names}
    assert told.keys() == NAMES
    for name, module in told.items():
        assert getattr(sinfer, name) is getattr(sys.modules[module or ""], name)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'sinfer' has no attribute 'Produkt'"):
        _ = sinfer.Produkt


@pytest.mark.parametrize(
    ("imports", "apart"),
    [
        ("from sinfer import *", ["celery", "sqlalchemy", "numpy"]),
        # What commands import before they know what to do: the less, the sooner they answer.
        ("import sinfer", ["pydantic", "redis", "nats", "httpx"]),
        ("import sinfer.cli", ["pydantic_settings", "redis", "nats", "httpx", "rich"]),
    ],
)
def test_importing_loads_no_more_than_is_needed(imports: str, apart: list[str]) -> None:
    code = f"{imports}; import sys; print([m for m in {apart} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.strip() == "[]"
