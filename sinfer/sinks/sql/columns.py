"""The columns of the sql sink's table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import JSON, BigInteger, Boolean, Column, DateTime, Double, Integer, String, Text
from sqlalchemy.dialects.mysql import DATETIME, LONGTEXT, VARCHAR
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import quoted_name
from sqlalchemy.types import TypeEngine, UserDefinedType

from sinfer.sinks.sql.target import MappedColumn

MYSQL_ID_LENGTH = 512
KEY = ("base_id", "ordinal")

EARLIER_NAMES = {"base_id": "window", "source_partition": "partition", "item_key": "key"}
"""What some columns are called in tables of earlier versions: reserved words of some databases."""


class JsonText(UserDefinedType[str]):
    """JSON in SQLite, declared so that its values stay the texts that they are.

    In a column that is declared as JSON, SQLite makes numbers of texts that look like some.
    """

    cache_ok = True
    DECLARED = "JSON_TEXT"

    def get_col_spec(self, **_: Any) -> str:
        return self.DECLARED


# Binary collation: ids that differ in case only are different.
_ID = Text().with_variant(VARCHAR(MYSQL_ID_LENGTH, collation="utf8mb4_bin"), "mysql", "mariadb")
_TEXT = Text().with_variant(Text(collation="utf8mb4_bin"), "mysql", "mariadb")
_LONG_TEXT = Text().with_variant(LONGTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")
_TIME = DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")
JSON_TYPE = JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite makes numbers of what looks like one, and rounds them, unless the column is TEXT.
_RESULT = JSON_TYPE.with_variant(Text(), "sqlite")

MAPPED_TYPES: dict[str, TypeEngine[Any]] = {
    "json": JSON_TYPE.with_variant(JsonText(), "sqlite"),
    "text": _LONG_TEXT,
    "integer": BigInteger(),
    "float": Double(),
    "boolean": Boolean(),
    "timestamp": _TIME,
}


def base_columns(*, is_earlier: bool = False) -> list[Column[Any]]:
    """The columns that every table of the sink has.

    Their keys are the names that they have now, whatever they are called in the table.

    Args:
        is_earlier: whether the table was made by a version that had other names.
    """
    names = EARLIER_NAMES if is_earlier else {}

    def column(key: str, type_: TypeEngine[Any], **options: Any) -> Column[Any]:
        name = quoted_name(names.get(key, key), quote=True)
        return Column(name, type_, key=key, **{"nullable": False, **options})

    return [
        column("base_id", _ID, primary_key=True),
        column("ordinal", BigInteger(), primary_key=True, autoincrement=False),
        column("revision", Integer()),
        column("attempt", Integer()),
        column("window_id", _TEXT),
        column("task", _TEXT),
        column("source_partition", _TEXT),
        column("item_key", _TEXT),
        column("window_start", _TIME, nullable=True),
        column("window_end", _TIME, nullable=True),
        column("close_reason", String(32)),
        column("result", _RESULT),
        column("written_at", _TIME),
    ]


def mapped_columns(mapped: Iterable[MappedColumn]) -> list[Column[Any]]:
    """The further columns of a table that sinfer makes."""
    return [
        Column(quoted_name(column.name, quote=True), MAPPED_TYPES[column.type], key=column.name)
        for column in mapped
    ]
