"""Values of results in the form that columns of each database take.

====================  ==========================================================================
column                what it takes
====================  ==========================================================================
JSON                  any value, as JSON
text                  texts as they are; anything else as JSON
integer               whole numbers, also those written ``2.0``
time with a zone      ISO 8601; where the text names no zone it is UTC; or seconds since the epoch
time without          the same, in UTC
binary                base64, as bytes are written in JSON
====================  ==========================================================================

Whatever else a column is, its database reads the value. What a converter raises is the row's fault.
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy.dialects.mysql import ENUM, LONGBLOB, MEDIUMBLOB, SET, TINYBLOB
from sqlalchemy.types import (
    BINARY,
    JSON,
    VARBINARY,
    Date,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    Numeric,
    String,
    Time,
    TypeEngine,
)

from sinfer.encoding import to_json

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Converter = Callable[[Any], Any]
"""From a value that JSON can hold, no ``None``, to what is given to the driver.

Raises:
    ValueError: the column cannot take it.
"""

_WHOLE = re.compile(r"\s*[+-]?\d+\s*")


def postgresql_converter(type_name: str) -> Converter:
    """For a type as ``format_type`` names it; PostgreSQL then reads the value from JSON."""
    if type_name.endswith("[]"):
        return _elements(postgresql_converter(type_name[:-2]))
    if type_name.startswith("timestamp") or type_name == "date":
        return _moment_text
    if type_name.startswith("time "):
        return _no_number
    if type_name == "bytea":
        return lambda value: f"\\x{_bytes(value).hex()}"
    if type_name in ("smallint", "integer", "bigint"):
        return _whole
    return _same


def mysql_converter(type_: TypeEngine[Any], *, is_json: bool) -> Converter:
    """For a type as SQLAlchemy reflects it; MariaDB's JSON columns do not show there."""
    if is_json or isinstance(type_, JSON):
        return json_text
    if isinstance(type_, ENUM):
        return _member_of(type_.enums, several=False)
    if isinstance(type_, SET):
        return _member_of(type_.values, several=True)
    for known, converter in _OF_MYSQL:
        if isinstance(type_, known):
            return converter
    return _plain


def sqlite_converter(declared: str) -> Converter:
    """For a column of SQLite by its declared type; it takes anything else as it is."""
    declared = declared.upper()
    if declared.startswith("JSON"):
        return json_text
    if "CHAR" in declared or "CLOB" in declared or "TEXT" in declared:
        return _text
    if "BLOB" in declared or "BINARY" in declared:
        return _bytes
    if declared.startswith(("DATETIME", "TIMESTAMP")):
        return lambda value: _text_of_moment(value, lambda found: found.isoformat(" "))
    if declared.startswith("DATE"):
        return lambda value: _text_of_moment(value, lambda found: found.date().isoformat())
    return _plain


def json_text(value: Any) -> str:
    """The value as JSON."""
    return to_json(value).decode()


def _same(value: Any) -> Any:
    return value


def _elements(converter: Converter) -> Converter:
    """For those of an array, of any depth; texts are PostgreSQL's own form of an array."""

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(one) if isinstance(one, list) else element(one) for one in value]
        return value

    def element(value: Any) -> Any:
        return None if value is None else converter(value)

    return convert


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _plain(value: Any) -> Any:
    return json_text(value) if isinstance(value, list | dict) else value


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("a number with a fraction, where the column takes whole ones")
        return int(value)
    return value


def _mysql_whole(value: Any) -> Any:
    value = _whole(value)
    if isinstance(value, list | dict) or (isinstance(value, str) and not _WHOLE.fullmatch(value)):
        raise ValueError("no whole number")
    return value


def _mysql_float(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise ValueError("no number")
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            raise ValueError("a text that is no number") from None
        if not math.isfinite(number):
            raise ValueError("MariaDB and MySQL have neither NaN nor infinity")
    return value


def _mysql_decimal(value: Any) -> Any:
    """As text: a number with an exponent would be rounded to a float's digits on its way."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, list | dict):
        raise ValueError("no number")
    if isinstance(value, str):
        try:
            number = Decimal(value.strip())
        except InvalidOperation:
            raise ValueError("a text that is no number") from None
        if not number.is_finite():
            raise ValueError("MariaDB and MySQL have neither NaN nor infinity")
    return value


def _member_of(members: Iterable[str], *, several: bool) -> Converter:
    """Else a number, also as text, would choose a member by its place."""
    known = {member.casefold() for member in members}

    def convert(value: Any) -> str:
        text = _text(value)
        named = text.split(",") if several and text else [text]
        if text and not all(member.strip().casefold() in known for member in named):
            raise ValueError("a text that is not among those that the column takes")
        return text

    return convert


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("no text; binary columns take base64")
    try:
        return b64decode(value, validate=True)
    except ValueError:
        raise ValueError("a text that is no base64, as which binary columns take bytes") from None


def _moment(value: Any) -> datetime | None:
    """The time that is meant, in UTC; None for a text that only the database may understand."""
    if isinstance(value, bool | list | dict):
        raise ValueError("neither a date nor seconds since the epoch")
    if isinstance(value, int | float):
        try:
            return EPOCH + timedelta(seconds=value)
        except OverflowError:
            raise ValueError("so many seconds since the epoch are beyond the year 9999") from None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:
        return None


def _moment_text(value: Any) -> Any:
    """PostgreSQL reads texts by itself, of years beyond those of Python too."""
    if isinstance(value, str):
        return value
    found = _moment(value)
    return found.isoformat() if found is not None else value


def _mysql_moment(value: Any) -> Any:
    found = _moment(value)
    return value if found is None else found.replace(tzinfo=None)


def _mysql_date(value: Any) -> date | Any:
    found = _moment(value)
    return value if found is None else found.date()


def _no_number(value: Any) -> Any:
    if not isinstance(value, str):
        raise ValueError("no time of day")
    return value


def _time_of_day(value: Any) -> Any:
    """Only with a date could a zone be converted."""
    try:
        found = time.fromisoformat(_no_number(value))
    except ValueError:
        return _no_number(value)
    if found.tzinfo is not None:
        raise ValueError("a time of day with a zone, which the column cannot keep")
    return value


def _text_of_moment(value: Any, text: Callable[[datetime], str]) -> Any:
    if isinstance(value, bool | list | dict):
        return _plain(value)  # SQLite takes any value
    found = _moment(value)
    return value if found is None else text(found.replace(tzinfo=None))


_OF_MYSQL: tuple[tuple[type[TypeEngine[Any]], Converter], ...] = (
    (String, _text),
    *((binary, _bytes) for binary in (LargeBinary, BINARY, VARBINARY)),
    *((binary, _bytes) for binary in (TINYBLOB, MEDIUMBLOB, LONGBLOB)),
    (Integer, _mysql_whole),
    (Float, _mysql_float),
    (Numeric, _mysql_decimal),
    (DateTime, _mysql_moment),
    (Date, _mysql_date),
    (Time, _time_of_day),
)
"""By the first that fits."""
