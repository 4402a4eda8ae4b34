"""Each outside thing has one room that touches it, and windows know of none."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinfer.store import keys

ROOT = Path(__file__).parents[2] / "sinfer"

ROOMS_OF = {
    "redis": {
        "store": "the window store",
        "sinks/redis_stream": "the Redis of a user, as a place for results",
        "tasks": "the Celery broker, of which kombu lets errors through",
    },
    "celery": {"tasks": "all that is Celery"},
    "kombu": {"tasks": "all that is Celery"},
    "billiard": {"tasks": "all that is Celery"},
}
"""Who may import a library, and why."""

OF_THE_STORE = {"redis", "run", "run_many", "ask", "ask_each"}
"""What only the store's own room asks a ``Store`` for."""

KEYS = {name for name in vars(keys) if name.endswith(("Keys", "_FIELD"))}
"""What spells keys and fields."""

IMPURE = {
    "asyncio",
    "threading",
    "redis",
    "logging",
    "time",
    "socket",
    "subprocess",
    "celery",
    "nats",
}
"""What no module of ``windows`` imports."""

MAY_KNOW = {"windows", "types", "errors", "escaping", "config"}
"""The rooms that ``windows`` builds on, with the masking of texts. Of ``config`` it has models and
units, which do no I/O."""


def files() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


FILES = dict(files())


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("library", ROOMS_OF)
def test_one_room_imports_the_library(library: str) -> None:
    rooms = tuple(f"{room}/" for room in ROOMS_OF[library])
    others = [
        name
        for name, tree in FILES.items()
        if any(module.split(".")[0] == library for module in imported(tree))
        and not name.startswith(rooms)
    ]
    assert others == []


def test_only_the_store_speaks_redis() -> None:
    """A ``store`` is asked for its methods, and nobody else spells a key or the field of one."""
    found = []
    for name, tree in FILES.items():
        if name.startswith("store/"):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in OF_THE_STORE:
                of = ast.unparse(node.value)
                if of.endswith("store") or of == "Store":
                    found.append(f"{name}:{node.lineno}: {of}.{node.attr}")
            if isinstance(node, ast.ImportFrom) and node.module == "sinfer.store.keys":
                found += [f"{name}: {alias.name}" for alias in node.names if alias.name in KEYS]
    assert found == []


def test_windows_build_on_what_is_pure() -> None:
    for name, tree in FILES.items():
        if not name.startswith("windows/"):
            continue
        for module in imported(tree):
            first, _, rest = module.partition(".")
            assert first not in IMPURE, name
            if first == "sinfer":
                is_known = rest.split(".")[0] in MAY_KNOW or module == "sinfer.logging.masking"
                assert is_known, f"{name} imports {module}"


def test_windows_load_nothing_that_does_io() -> None:
    names = [
        "sinfer." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for name in FILES
        if name.startswith("windows/")
    ]
    program = """
import importlib, json, sys
for name in json.load(sys.stdin):
    importlib.import_module(name)
print(json.dumps(sorted({"redis", "nats", "celery", "httpx", "sinfer.settings"} & {*sys.modules})))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(names), text=True, capture_output=True,
        check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == []
