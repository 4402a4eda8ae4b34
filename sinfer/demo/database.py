"""The SQLite part of the demonstration: read the results as any other program would."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any


def count_rows(path: Path, table: str) -> int:
    """How many results a table holds; 0 when it is not there yet."""
    if not path.exists():
        return 0
    with closing(_connect(path)) as connection:
        try:
            (count,) = connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return 0
            raise
        return int(count)


def read_rows(path: Path, table: str) -> list[Mapping[str, Any]]:
    """All results of a table; none when it is not there."""
    if count_rows(path, table) == 0:
        return []
    with closing(_connect(path)) as connection:
        return [json.loads(data) for (data,) in connection.execute(f'SELECT result FROM "{table}"')]


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
