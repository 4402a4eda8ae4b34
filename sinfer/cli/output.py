"""Printing: tables for people, JSON for programs, times in UTC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sinfer.masking import mask


def print_json(value: Any) -> None:
    """Print a value as JSON; what only looks like bytes is text, or shown with escapes."""
    click.echo(json.dumps(value, indent=2, default=_plain, ensure_ascii=False))


def print_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their names; numbers to the right. Nothing is cut off when it is piped."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [list(row) for row in rows]
    for place, name in enumerate(names):
        numeric = bool(cells) and all(isinstance(row[place], int) for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(escape(mask(str(cell))) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=10_000)
    console.print(table)


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
