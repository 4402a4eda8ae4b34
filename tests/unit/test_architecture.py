"""docs/architecture.md names files, keys, scripts and tests that exist, and leaves none out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sinfer.store import keys
from sinfer.store.lua import SCRIPTS
from tests.unit.test_imports import LAYERS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
NAMED = set(re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)))
SCRIPT_NAMES = set(SCRIPTS)
FOLDERS = {path.parent.name for path in (ROOT / "sinfer").glob("*/__init__.py")}
KEY_NAMES = {
    name.removeprefix("sinfer:{scope}:")
    for name in re.findall(r"^\| ``([^`]+)``", str(keys.__doc__), flags=re.MULTILINE)
}


def section(title: str) -> str:
    return TEXT.partition(f"## {title}\n")[2].partition("\n## ")[0]


def cells(title: str) -> list[list[str]]:
    """The rows of a section's table."""
    rows = [line for line in section(title).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows[2:]]


@pytest.mark.parametrize("path", sorted(name for name in NAMED if re.search(r"\.\w+($|::)", name)))
def test_a_file_or_test_that_is_named_exists(path: str) -> None:
    file, _, name = path.partition("::")
    assert (ROOT / file).is_file()
    if name:
        tree = ast.parse((ROOT / file).read_text())
        functions = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
        functions |= {n.name for n in tree.body if isinstance(n, ast.AsyncFunctionDef)}
        assert name in functions


def test_every_key_is_in_the_table_and_there_are_no_others() -> None:
    named = {name for row in cells("What is in Redis") for name in re.findall(r"`([^`]+)`", row[0])}
    assert named == KEY_NAMES


def test_every_script_is_named_and_there_are_no_others() -> None:
    named = {
        name
        for title, column in (("What is in Redis", 3), ("The life of a window", 1))
        for row in cells(title)
        for name in re.findall(r"`([^`/]+)`", row[column])
    }
    assert named == SCRIPT_NAMES


def test_each_failure_names_who_notices_and_a_test() -> None:
    for failure, _, _, test in cells("What goes wrong, who notices, and what happens"):
        assert test.startswith("`tests/"), failure


def test_contributing_names_rooms_and_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## How the code is laid out")[2]
    for path in re.findall(r"`((?:sinfer|tests)/[^`]+)`", text):
        assert (ROOT / path).exists(), path
    rooms = section_of(text)
    assert rooms == {part for layer in LAYERS for part in layer} & FOLDERS


def section_of(text: str) -> set[str]:
    """The rooms in the first column of the table."""
    table = text.partition("| room |")[2].partition("\n\n")[0]
    rows = (line.split("|")[1] for line in table.splitlines()[2:])
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)} & FOLDERS
