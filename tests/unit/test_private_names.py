"""Private names of libraries are used where a room lists them, and nowhere else."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from sinfer.embedded import private_names as of_embedded
from sinfer.nats import private_names as of_nats
from sinfer.tasks import private_names as of_tasks

ROOT = Path(__file__).parents[2]

LISTS = {
    "sinfer.nats": of_nats.PRIVATE_NAMES,
    "sinfer.tasks": of_tasks.PRIVATE_NAMES,
    "sinfer.embedded": of_embedded.PRIVATE_NAMES,
}
"""What each room lists that uses any."""

PROMISED = {"_asdict", "_fields", "_make", "_replace", "_exit", "_current_frames"}
"""Names that begin so, and are documented: those of named tuples, and two of the interpreter."""

FILES = {
    str(path.relative_to(ROOT).with_suffix("")).replace("/", "."): ast.parse(path.read_text())
    for path in [*sorted((ROOT / "sinfer").rglob("*.py")), ROOT / "beat_schedule.py"]
    if "templates" not in path.parts
}

Use = tuple[str, str]
"""A module, and a private name in it that is not sinfer's."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in PROMISED


def is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "super"


def defined_in(tree: ast.Module) -> set[str]:
    """Names of attributes that a module gives to objects of its own."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) == "self":
                found.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)  # as in __slots__
    return found


def asked_of_others(module: str, tree: ast.Module) -> Iterator[Use]:
    """Private names that are asked of an object that is not ``self``, or imported."""
    own = {name for name in defined_in(tree) if is_private(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of_itself = ast.unparse(node.value) in ("self", "cls") or is_super(node.value)
            if not of_itself and node.attr not in own:
                yield module, node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("attr"):
            # getattr, hasattr, setattr, delattr, and what else is called like that
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant) and is_private(str(argument.value)):
                    yield module, str(argument.value)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            if any(map(is_private, (node.module or "").split("."))):
                yield module, node.names[0].name
            yield from ((module, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
            yield from ((module, name) for name in names if any(map(is_private, name.split("."))))


@cache
def text_of(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return " ".join(f"self.{name}" for name in vars(kind))


def has(kind: type, name: str) -> bool:
    """Whether a class of a library has a method or an attribute of this name."""
    return name in vars(kind) or re.search(rf"\bself\.{name}\b", text_of(kind)) is not None


def foreign_bases(kind: type) -> list[type]:
    return [base for base in kind.__mro__[1:] if not base.__module__.startswith("sinfer")]


def shared_with_bases(module: str, tree: ast.Module) -> Iterator[Use]:
    """Private names that a class has or uses of itself, and that come from a library's class."""
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    for node in classes:
        kind: type = getattr(import_module(module), node.name)
        bases = foreign_bases(kind)
        for part in ast.walk(node):
            name = ""
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
                name = part.name
            elif isinstance(part, ast.AnnAssign | ast.Assign):
                targets = [part.target] if isinstance(part, ast.AnnAssign) else part.targets
                name = next((one.id for one in targets if isinstance(one, ast.Name)), "")
            elif isinstance(part, ast.Attribute) and is_super(part.value):
                own = [base for base in kind.__mro__[1:] if base not in bases]
                if is_private(part.attr) and not any(has(base, part.attr) for base in own):
                    yield module, part.attr
                continue
            elif isinstance(part, ast.Attribute) and ast.unparse(part.value) == "self":
                name = part.attr
            if is_private(name) and any(has(base, name) for base in bases):
                yield module, name


@cache
def uses() -> set[Use]:
    return {
        use
        for module, tree in FILES.items()
        for found in (asked_of_others, shared_with_bases)
        for use in found(module, tree)
    }


def test_only_rooms_with_a_list_use_private_names_of_libraries() -> None:
    rooms = tuple(f"{room}." for room in LISTS)
    assert {use for use in uses() if not use[0].startswith(rooms)} == set()


@pytest.mark.parametrize("room", LISTS)
def test_a_room_lists_what_it_uses_and_nothing_else(room: str) -> None:
    used = {name for module, name in uses() if module.startswith(f"{room}.")}
    listed = {re.split("[.:]", entry.name)[-1] for entry in LISTS[room]}
    assert used <= listed
    text = "\n".join(
        ast.unparse(tree) for module, tree in FILES.items() if module.startswith(f"{room}.")
    )
    outside_of_lists = re.sub(r"PrivateName\([^)]*\)", "", text)
    idle = {name for name in listed if name not in outside_of_lists}
    assert idle <= {"run_asgi"}  # counted on, and not called
