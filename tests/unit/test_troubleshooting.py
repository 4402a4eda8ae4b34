"""The troubleshooting guide quotes what sinfer says, and its commands are sinfer's commands."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from sinfer.cli import main

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "troubleshooting.md").read_text()

_LEAST = 4
"""Characters of a quoted fragment that is looked for."""


@cache
def said() -> str:
    """All texts that stand in the code, in one."""
    texts = []
    for file in (ROOT / "sinfer").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("…".join(
                    str(part.value) if isinstance(part, ast.Constant) else ""
                    for part in node.values
                ))  # fmt: skip
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def quotes() -> Iterator[str]:
    """What the guide quotes: the code in first columns whose heading is "it says"."""
    for table in re.findall(r"^\| it says \|.*?\n\n", GUIDE, re.MULTILINE | re.DOTALL):
        for row in table.splitlines()[2:]:
            yield from re.findall(r"`([^`]+)`", row.split(" | ")[0])


def commands() -> Iterator[str]:
    """Its commands: whole blocks, and those within sentences."""
    for block in re.findall(r"```\n(.*?)```", GUIDE, re.DOTALL):
        yield from block.splitlines()
    yield from re.findall(r"`(sinfer [^`…]+)`", re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL))


@pytest.mark.parametrize("quote", sorted(set(quotes())))
def test_what_it_quotes_is_what_sinfer_says(quote: str) -> None:
    for fragment in quote.split("…"):
        if len(fragment.strip()) >= _LEAST:
            assert fragment.strip() in said(), fragment


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_its_commands_are_those_that_there_are(line: str) -> None:
    program, *words = shlex.split(line)
    assert program == "sinfer"
    command: click.Command = main
    context = click.Context(main, info_name="sinfer")
    while isinstance(command, click.Group):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, name
        command = found
    if words:  # else it is named, and not shown
        command.make_context(command.name, words)  # refuses unknown options and bad values
