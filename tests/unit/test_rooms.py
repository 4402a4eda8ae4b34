"""Each outside thing has one room that touches it, and windows know of none."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.commands import AsyncCoreCommands

from sinfer.store.keys import (
    CONSUMER_FIELD,
    COPIED_FIELD,
    INCARNATION_FIELD,
    STANDSTILL_FIELD,
)  # fmt: skip
from sinfer.store.partition.account import COUNTS, OTHER_COUNTS, Count
from sinfer.store.store_time import TIME_FIELDS

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

COMMANDS = {name for name in dir(AsyncCoreCommands) if not name.startswith("_")}
"""What a client of Redis can be asked."""

OF_THE_STORE = {"redis", "run", "run_many", "ask", "ask_each", "errors", "script"}
"""What only the store's own room asks a ``Store`` for."""

OWNED = {"store", "writer", "claims", "board", "letters", "schedule", "segments"}
"""What others have of the store's room, as they call it; its keys are its own affair."""

SPOKEN_ELSEWHERE = {
    "sinks/redis_stream/": "writes results into the Redis of a user",
    "tasks/redis_broker.py": "keeps the connections of kombu's own transport alive",
}
"""Files outside the store's room that speak Redis, and why."""

FIELDS = {
    *COUNTS, *OTHER_COUNTS, *TIME_FIELDS, Count.REDRIVEN, Count.TAKEN, "purged", "trimmed",
    "commits", "lease_until", "hint_until", "hint_name", "drained", "repeats_to",
    CONSUMER_FIELD, INCARNATION_FIELD, STANDSTILL_FIELD, COPIED_FIELD, "open_until", "trial_until",
    "tick_until",
} - {"results", "dead", "filtered", "late", "consumer", "incarnation", "time"}  # fmt: skip
"""Names of stored fields; without those that are words of other things as well."""

NAMED_ELSEWHERE = {
    "operations/metrics.py": "names attributes of a status",
    "operations/status.py": "names attributes of a status",
    "cli/": "names attributes of a status, and what is printed of them",
}
"""Files that have such names of their own, and why."""

IMPURE = {
    "asyncio", "threading", "concurrent", "multiprocessing", "logging", "time", "random", "uuid",
    "os", "pathlib", "socket", "subprocess", "redis", "nats", "celery", "kombu", "httpx",
}  # fmt: skip
"""What no module of ``windows`` imports."""

NEVER_LOADED = {
    "asyncio", "logging", "redis", "nats", "celery", "kombu", "httpx", "sinfer.settings",
    "sinfer.clock", "sinfer.hooks", "sinfer.aio", "sinfer.store", "sinfer.source",
}  # fmt: skip
"""What none of them has loaded either, by whatever it imports."""

MAY_KNOW = {
    "sinfer.windows": "its own room",
    "sinfer.types": "what a message is",
    "sinfer.errors": "what is raised",
    "sinfer.escaping": "how names are joined",
    "sinfer.config.model": "what ``window:`` in a task may say is checked by it",
    "sinfer.config.units": "durations and sizes, as they are written there",
    "sinfer.logging.masking": "one line of a text, without secrets; a function of strings",
}
"""What ``windows`` builds on, and why."""


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


def others_than_the_store(known: dict[str, str]) -> Iterator[tuple[str, ast.AST]]:
    """Everything in files outside the store's room, but for those that are known."""
    for name, tree in FILES.items():
        if not name.startswith(("store/", *known)):
            for node in ast.walk(tree):
                yield name, node


def test_only_the_store_asks_for_commands_scripts_and_keys() -> None:
    found = []
    for name, node in others_than_the_store(SPOKEN_ELSEWHERE):
        if isinstance(node, ast.Attribute):
            of = ast.unparse(node.value)
            owner = of.rpartition(".")[2].strip("_").lower()
            is_owned = owner in OWNED or owner.endswith("store")
            if (is_owned and node.attr in OF_THE_STORE | {"keys"}) or (
                owner in {"redis", "pipeline", "pipe"} and node.attr in COMMANDS
            ):
                found.append(f"{name}:{node.lineno}: {of}.{node.attr}")
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if node.module == "sinfer.store.keys" or "sinfer.store.keys" in names:
                found.append(f"{name}:{node.lineno}: imports keys")
    assert found == []


def test_only_the_store_names_fields_of_what_is_stored() -> None:
    found = [
        f"{name}:{node.lineno}: {node.value!r}"
        for name, node in others_than_the_store(NAMED_ELSEWHERE)
        if isinstance(node, ast.Constant) and node.value in FIELDS
    ]
    assert found == []


@pytest.mark.parametrize("known", [SPOKEN_ELSEWHERE, NAMED_ELSEWHERE])
def test_what_is_let_be_is_there(known: dict[str, str]) -> None:
    for place in known:
        assert any(name.startswith(place) for name in FILES), place


WINDOWS = [name for name in FILES if name.startswith("windows/")]


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_build_on_what_is_pure(name: str) -> None:
    for module in imported(FILES[name]):
        assert module.split(".")[0] not in IMPURE, module
        if module.startswith("sinfer"):
            assert module.startswith(tuple(MAY_KNOW)), module


@pytest.mark.parametrize("name", WINDOWS)
def test_windows_load_nothing_that_does_io(name: str) -> None:
    module = "sinfer." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    program = f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], text=True, capture_output=True, check=True
    )
    loaded = json.loads(done.stdout)
    assert [found for found in loaded if found in NEVER_LOADED] == []
    own = [m for m in loaded if m.startswith("sinfer.") and not m.startswith(tuple(MAY_KNOW))]
    assert {*own} <= {"sinfer.config", "sinfer.logging"}  # which are empty


@pytest.mark.parametrize(
    "name", [name for name in FILES if f"sinfer.{name[:-3].replace('/', '.')}" in MAY_KNOW]
)
def test_what_windows_build_on_is_pure(name: str) -> None:
    assert [module for module in imported(FILES[name]) if module.split(".")[0] in IMPURE] == []
