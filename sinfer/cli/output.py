"""Printing: tables for people, JSON for programs, times in UTC."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.cells import cell_len

from sinfer.logging.masking import mask

_GAP = "  "


def print_json(value: Any) -> None:
    """Print a value as JSON; what only looks like bytes is text, or shown with escapes."""
    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their names; numbers to the right.

    Where a terminal is too narrow for the table, each row becomes a few lines, its first cell on
    one by itself. What has no spaces, as ids have none, is never broken: it can be copied whole.
    What is piped is not made narrower, unless ``COLUMNS`` is set.
    """
    found = [list(row) for row in rows]
    numeric = [
        bool(found) and all(isinstance(cell, int) for cell in column)
        for column in zip(*found, strict=True)
    ]
    cells = [[printable(mask(str(cell))) for cell in row] for row in found]
    widths = [max(map(cell_len, column)) for column in zip(names, *cells, strict=True)]
    width = _width()
    if width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        for row in cells:
            click.echo("\n".join(_stacked(names, row, width)))
        return
    click.secho(_line(names, widths, numeric), bold=True)
    for row in cells:
        click.echo(_line(row, widths, numeric))


def _width() -> int | None:
    """The width that output has to fit; None where it is piped."""
    if sys.stdout.isatty() or os.environ.get("COLUMNS"):
        return shutil.get_terminal_size().columns
    return None


def printable(text: str) -> str:
    """A text without what would move the cursor or change colours."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _line(row: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = []
    for cell, width, is_number in zip(row, widths, numeric, strict=True):
        spaces = " " * (width - cell_len(cell))
        padded.append(spaces + cell if is_number else cell + spaces)
    return _GAP.join(padded).rstrip()


def _stacked(names: Sequence[str], row: Sequence[str], width: int) -> Iterator[str]:
    """One row as lines: its first cell, then the others with their names, as many as fit a line."""
    yield row[0]
    line = ""
    for name, cell in zip(names[1:], row[1:], strict=True):
        if not cell:
            continue
        part = f"{_GAP}{name.lower()} {cell}"
        if line and cell_len(line + part) > width:
            yield from _wrapped(line, width)
            line = ""
        line += part
    yield from _wrapped(line, width)


def _wrapped(line: str, width: int) -> list[str]:
    """Broken between words, where it is too long."""
    return textwrap.wrap(
        line,
        width,
        subsequent_indent=2 * _GAP,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


def some(number: int, thing: str, plural: str = "s") -> str:
    """So many of a thing."""
    return f"{number} {thing}{'' if number == 1 else plural}"


def moment(ms: int | None) -> str:
    """A time in UTC, to the millisecond; ``-`` for none."""
    if not ms:
        return "-"
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def text_of(data: bytes, limit: int | None = None) -> str:
    """A payload as text, with what is no text in it as escapes; cut where it is long."""
    cut = data if limit is None else data[:limit]
    text = cut.decode("utf-8", "backslashreplace")
    return text if len(cut) == len(data) else f"{text}... ({len(data)} bytes)"


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return text_of(value)
    return mask(str(value))
