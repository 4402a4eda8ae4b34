"""Imports point one way, and there are no cycles: the folder tree explains the system."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = [
    {"escaping", "clock", "encoding"},
    {"types"},
    {"errors"},
    {"exit_codes", "extras", "ports"},
    {"aio"},
    {"logging"},
    {"hooks"},
    {"config"},
    {"settings"},
    {"http"},
    {"nats"},
    {"windows"},
    {"store"},
    {"source"},
    {"inference", "sinks"},
    {"products"},
    {"liveness"},
    {"ingest"},
    {"worker"},
    {"tasks"},
    {"operations"},
    {"embedded"},
    {"local"},
    {"testing"},
    {"demo", "shipped products", "templates"},
    {"cli", "__main__", "beat_schedule"},
]
"""From the lowest to the highest; a room imports from itself and from those before it."""

APART = [("ingest", "worker"), ("ingest", "tasks"), ("inference", "sinks")]
"""Rooms that do not know each other."""

FREE = {"sinfer", "sinfer.products.registry"}
"""The public names come from everywhere; the registry imports the products it finds."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    module_name(path): path
    for path in [*(ROOT / "sinfer").rglob("*.py"), ROOT / "beat_schedule.py"]
}


def imported_at_the_top(module: str) -> Iterator[str]:
    """Modules of this project that a module imports when it is loaded."""
    for node in ast.parse(MODULES[module].read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def part_of(module: str) -> str:
    names = module.split(".")
    is_product = names[:2] == ["sinfer", "products"] and (ROOT / Path(*names[:3])).is_dir()
    if is_product and len(names) > 2:
        return "shipped products"  # they use whatever a product may use, and the embedded servers
    return names[1] if names[0] == "sinfer" and len(names) > 1 else names[0]


def layer_of(part: str) -> int:
    for number, parts in enumerate(LAYERS):
        if part in parts:
            return number
    raise AssertionError(f"{part} stands in no layer; add it to LAYERS where it belongs")


GRAPH = {
    module: {name for name in imported_at_the_top(module) if name in MODULES} for module in MODULES
}


@pytest.mark.parametrize("module", sorted(MODULES.keys() - FREE))
def test_a_module_imports_only_from_its_layer_and_below(module: str) -> None:
    part = part_of(module)
    for other in GRAPH[module] - {"sinfer"}:
        assert layer_of(part_of(other)) <= layer_of(part), f"{module} imports {other}"
        assert (part, part_of(other)) not in [*APART, *(pair[::-1] for pair in APART)]


def test_there_are_no_cycles() -> None:
    graph = {module: GRAPH[module] - FREE for module in MODULES.keys() - FREE}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_first_line_says_what_lives_there(module: str) -> None:
    first = MODULES[module].read_text().split("\n", 1)[0]
    assert first.startswith('"""')
    assert len(first) > 10
