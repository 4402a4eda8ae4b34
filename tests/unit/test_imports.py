"""Imports point one way, and there are no cycles: the folder tree explains the system."""

from __future__ import annotations

from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest
from grimp import ImportGraph, Layer

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
    {"demo", "templates"},
    {"cli", "__main__"},
]
"""From the lowest to the highest; a room imports from itself and from those before it, also within
functions. Rooms of one layer, and those of ``APART``, do not know each other."""

TOGETHER = {"escaping", "extras", "cli"}
"""Layers whose rooms may know each other, by one of them."""

APART = [("ingest", "worker"), ("ingest", "tasks")]

SHIPPED = ("sinfer.products.example", "sinfer.products.soe")
"""Products use whatever a product may use, and the embedded servers for their demonstrations."""

FREE = {"sinfer", "sinfer.products.registry"}
"""The public names come from everywhere; the registry imports the products it finds."""


@cache
def graph() -> ImportGraph:
    """All imports but those for types alone; shipped products left out."""
    found = grimp.build_graph("sinfer", exclude_type_checking_imports=True, cache_dir=None)
    for module in [name for name in found.modules if name.startswith(SHIPPED)]:
        found.remove_module(module)
    return found


def test_a_room_imports_only_from_those_below() -> None:
    layers = [Layer(*layer, independent=not layer & TOGETHER) for layer in reversed(LAYERS)]
    illegal = graph().find_illegal_dependencies_for_layers(layers, containers={"sinfer"})
    assert [str(found) for found in illegal] == []


def test_every_room_stands_in_a_layer() -> None:
    rooms = {name.split(".")[1] for name in graph().modules if "." in name}
    assert rooms == {room for layer in LAYERS for room in layer}


@pytest.mark.parametrize(("one", "other"), APART)
def test_rooms_that_are_apart_do_not_know_each_other(one: str, other: str) -> None:
    for importer, imported in ((one, other), (other, one)):
        chains = graph().find_shortest_chains(
            importer=f"sinfer.{importer}", imported=f"sinfer.{imported}", as_packages=True
        )
        assert chains == set()


def test_there_are_no_cycles() -> None:
    modules = graph().modules - FREE
    imports = {
        module: graph().find_modules_directly_imported_by(module) & modules for module in modules
    }
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


FILES = [*sorted((ROOT / "sinfer").rglob("*.py")), ROOT / "beat_schedule.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_first_line_says_what_lives_there(path: Path) -> None:
    first = path.read_text().split("\n", 1)[0]
    assert first.startswith('"""')
    assert len(first) > 10
