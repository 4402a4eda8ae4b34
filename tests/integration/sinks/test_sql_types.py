"""What columns of every type hold of what results hold, on each database."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel
from sqlalchemy import text

from sinfer.errors import SinkRejectedError
from sinfer.products.example import product
from sinfer.products.example.data import samples
from sinfer.testing import FakeModel, TaskTester, v2_response
from sinfer.types.message import Message
from tests.integration.sinks.test_sql import connected, rows, run, sql_sink
from tests.integration.sinks.test_sql_refusals import dialect_of
from tests.support.window_results import window_results

LONG = "ü🌡" * 60_000
"""More than the 64 KiB of a MySQL TEXT, and of four bytes a character."""

JSON_VALUES: list[Any] = [
    "7", "true", "null", '"', "", "text", LONG, "a\\u0000b", 7, 7.0, 0.1, 1e-300, 2**53 + 1,
    2**63 - 1, -(2**63), True, False, [], {}, [1, "2", None, {"a": ["🌡"]}],
    {"7": "7", "a": {"b": None}}, "2024-05-06", "0x1", " 7 ", "1e5", "NaN",
]  # fmt: skip


def numbered(values: list[Any], column: str = "v") -> list[dict[str, Any]]:
    return [{column: value} for value in values]


async def held(
    url: str, table: str, values: list[Any], type_: str | None = None, **settings: Any
) -> list[Any]:
    """What a column holds of values, as the database's driver gives it."""
    column: Any = {"field": "v", "type": type_} if type_ else "v"
    sink = sql_sink(url, table, columns={"v": column}, **settings)
    await sink.write(window_results(numbered(values)))
    await sink.aclose()
    return [row["v"] for row in rows(url, f"SELECT v FROM {table} ORDER BY ordinal")]


async def test_a_column_of_the_default_type_holds_any_value_as_it_is(
    database_url: str, unique: str
) -> None:
    found = await held(database_url, unique, [*JSON_VALUES, None])
    assert found.pop() is None
    if dialect_of(database_url) != "postgresql":  # whose driver decodes
        found = [json.loads(value) for value in found]
    assert found == JSON_VALUES
    told = [type(value) for value in found if isinstance(value, str | bool)]
    assert told == [type(value) for value in JSON_VALUES if isinstance(value, str | bool)]


@pytest.mark.parametrize("mode", ["ANSI", "TRADITIONAL,NO_BACKSLASH_ESCAPES", "ORACLE"])
async def test_a_mode_of_the_connection_changes_no_value(
    mariadb_url: str, unique: str, mode: str
) -> None:
    url = f"{mariadb_url}?sql_mode={mode}"
    values = ["7", "", "a\\'\"", {"a": "\\"}]
    assert [json.loads(v) for v in await held(url, unique, values)] == values
    assert await held(url, f"{unique}t", values[:3], "text") == values[:3]


async def test_a_text_is_what_it_was_and_anything_else_is_json(
    database_url: str, unique: str
) -> None:
    values = ["7", "true", LONG, "🌡", "", " a ", "line\nbreak\ttab\\", "'\"`%s:x"]
    others = [7, 0.5, True, [1, "a"], {"a": None}]
    found = await held(database_url, unique, [*values, *others, None], "text")
    assert found == [*values, "7", "0.5", "true", '[1,"a"]', '{"a":null}', None]


@pytest.mark.parametrize("database", ["sqlite", "mariadb"])
async def test_a_text_may_have_a_character_0_where_the_database_takes_it(
    request: pytest.FixtureRequest, database: str, unique: str, tmp_path: Any
) -> None:
    url = f"sqlite:///{tmp_path / 'r.db'}"
    if database != "sqlite":
        url = request.getfixturevalue(f"{database}_url")
    assert await held(url, unique, ["a\0b", "\0"], "text") == ["a\0b", "\0"]


async def test_numbers_and_booleans_are_what_they_were(database_url: str, unique: str) -> None:
    whole = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 3.0]
    assert await held(database_url, f"{unique}i", whole, "integer") == whole
    floats = [0.1, -1e300, 5e-324, 1 / 3, 7, 1.7976931348623157e308]
    assert await held(database_url, f"{unique}f", floats, "float") == floats
    assert await held(database_url, f"{unique}b", [True, False, None], "boolean") == [
        True, False, None
    ]  # fmt: skip


MOMENTS = {
    "2024-05-06T07:08:09.123456Z": "2024-05-06 07:08:09.123456",
    "2024-05-06T07:08:09+02:00": "2024-05-06 05:08:09",
    "2024-05-06 23:30:00-05:00": "2024-05-07 04:30:00",
    "2024-05-06T07:08:09": "2024-05-06 07:08:09",
    "2024-05-06": "2024-05-06 00:00:00",
    # Twice in a night in Berlin, not at all in another.
    "2024-10-27T02:30:00+01:00": "2024-10-27 01:30:00",
    "2024-03-31T02:30:00": "2024-03-31 02:30:00",
    1714979289.5: "2024-05-06 07:08:09.500000",
    0: "1970-01-01 00:00:00",
}
"""Times as results may have them, and the same in UTC."""


async def test_a_time_is_the_moment_that_was_meant_whatever_the_zone_of_the_server(
    database_url: str, unique: str
) -> None:
    found = await held(database_url, unique, list(MOMENTS), "timestamp")
    assert [moment(value) for value in found] == [moment(value) for value in MOMENTS.values()]


def moment(value: Any) -> datetime:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


async def test_columns_that_are_there_take_moments_in_utc(database_url: str, unique: str) -> None:
    dialect = dialect_of(database_url)
    kinds = {
        "postgresql": ["TIMESTAMPTZ", "TIMESTAMP", "TIMESTAMP(6) WITHOUT TIME ZONE"],
        "mariadb": ["DATETIME(6)", "TIMESTAMP(6) NULL"],
        "sqlite": ["DATETIME", "TIMESTAMP"],
    }[dialect]
    for n, kind in enumerate(kinds):
        table = f"{unique}{n}"
        await made(database_url, table, kind)
        values = list(MOMENTS)
        if "TIMESTAMP" in kind and dialect == "mariadb":
            values.remove(0)  # MariaDB has that for an invalid time
        found = await held(database_url, table, values)
        assert [moment(v) for v in found] == [moment(MOMENTS[v]) for v in values], kind
    await made(database_url, f"{unique}d", "DATE")
    found = await held(database_url, f"{unique}d", list(MOMENTS))
    assert [str(value) for value in found] == [value[:10] for value in MOMENTS.values()]


async def made(url: str, table: str, kind: str) -> None:
    """A table of the sink, with a column that somebody added."""
    sink = sql_sink(url, table)
    await sink.write(window_results(1))
    await sink.aclose()
    run(url, f"DELETE FROM {table}", f"ALTER TABLE {table} ADD v {kind}")


class Colour(Enum):
    RED = "red"


class Typed(BaseModel):
    """As pydantic writes them into results."""

    v: Any


DIGITS = "12345678901234567890.12345678901234567890"
UID = UUID("12345678-1234-5678-1234-567812345678")

POSTGRESQL: list[tuple[str, Any, str]] = [
    ("DOUBLE PRECISION[]", [1, 2.5, None, "NaN"], "{1,2.5,NULL,NaN}"),
    ("DOUBLE PRECISION[]", [[1, 2], [3, 4.5]], "{{1,2},{3,4.5}}"),
    ("REAL[]", [], "{}"),
    ("BIGINT[]", [1, 2.0, 2**62], "{1,2,4611686018427387904}"),
    (
        "TEXT[]", ["a", 'b"', "c,d", "{", "NULL", "", "🌡", None],
        '{a,"b\\"","c,d","{","NULL","",🌡,NULL}',
    ),
    ("BOOLEAN[]", [True, False], "{t,f}"),
    (
        "TIMESTAMPTZ[]", ["2024-05-06T07:08:09+02:00", 0],
        '{"2024-05-06 05:08:09+00","1970-01-01 00:00:00+00"}',
    ),
    ("INTEGER[]", "{1,2}", "{1,2}"),
    ("NUMERIC(40, 20)", Decimal(DIGITS), DIGITS),
    ("NUMERIC", 0.12345678901234568, "0.12345678901234568"),
    ("NUMERIC", 2**63, "9223372036854775808"),
    ("NUMERIC", "NaN", "NaN"),
    ("DOUBLE PRECISION", "Infinity", "Infinity"),
    ("DOUBLE PRECISION", "-Infinity", "-Infinity"),
    ("UUID", UID, str(UID)),
    ("BYTEA", b"\0\xff bytes", "\\x00ff206279746573"),
    ("JSONB", {"b": 1, "a": [None]}, '{"a": [null], "b": 1}'),
    ("JSON", "7", '"7"'),
    ("VARCHAR(3)", 7, "7"),
    ("CHAR(5)", "ab", "ab"),
    ("INTERVAL", "PT1H30M", "01:30:00"),
    ("INET", "10.0.0.1", "10.0.0.1/32"),
    ("INT4RANGE", "[1,5)", "[1,5)"),
    ("TIME", "23:30:00+02:00", "21:30:00"),
    ("TIMETZ", "07:08:09+02:00", "07:08:09+02"),
    ("BIT(3)", "101", "101"),
    ("TIMESTAMP", "infinity", "infinity"),
    ("TIMESTAMPTZ", "2024-05-06 07:08:09 Europe/Berlin", "2024-05-06 05:08:09+00"),
    ("TIMESTAMP", "2024-05-06 07:08:09 Europe/Berlin", "2024-05-06 05:08:09"),
    ("\"{}_Colour\"", Colour.RED, "red"),
    ("{}_positive", 7, "7"),
]  # fmt: skip

MARIADB: list[tuple[str, Any, str]] = [
    ("DECIMAL(40, 20)", Decimal(DIGITS), DIGITS),
    ("DECIMAL(30, 20)", 0.12345678901234568, "0.12345678901234568000"),
    ("DECIMAL(30, 0)", 2**63, "9223372036854775808"),
    ("BIGINT UNSIGNED", 2**64 - 1, "18446744073709551615"),
    ("TINYINT(1)", True, "1"),
    ("UUID", UID, str(UID)),
    ("LONGTEXT", LONG, LONG),
    ("VARCHAR(9)", [1], "[1]"),
    ("CHAR(1) CHARACTER SET latin1", "ü", "ü"),
    ("ENUM('red', 'blue')", Colour.RED, "red"),
    ("SET('a', 'b')", "a,b", "a,b"),
    ("TIME(3)", "07:08:09.5", "07:08:09.500"),
    ("YEAR", 2024, "2024"),
    ("JSON", "7", '"7"'),
    ("JSON", "true", '"true"'),
    ("LONGTEXT CHECK (JSON_VALID(v))", "7", '"7"'),
    ("INET6", "::1", "::1"),
]  # fmt: skip


@pytest.mark.parametrize("database", ["postgresql", "pgbouncer", "mariadb"])
async def test_columns_of_every_type_hold_the_value_itself(
    request: pytest.FixtureRequest, database: str, unique: str
) -> None:
    """One table with a column for each case, and one result."""
    url = request.getfixturevalue(f"{database}_url")
    cases = MARIADB if database == "mariadb" else POSTGRESQL
    sink = sql_sink(url, unique)
    await sink.write(window_results(1))
    await sink.aclose()
    run(url, f"DELETE FROM {unique}")
    if database != "mariadb":
        run(
            url,
            f"CREATE TYPE \"{unique}_Colour\" AS ENUM ('red', 'blue')",
            f"CREATE DOMAIN {unique}_positive AS BIGINT CHECK (VALUE > 0)",
        )
    added = [
        f"ADD c{n} {kind.format(unique).replace('(v)', f'(c{n})')}"
        for n, (kind, _, _) in enumerate(cases)
    ]
    run(url, f"ALTER TABLE {unique} {', '.join(added)}")
    sink = sql_sink(url, unique, columns={f"c{n}": f"f{n}" for n in range(len(cases))})
    values = {f"f{n}": value for n, (_, value, _) in enumerate(cases)}
    await sink.write(window_results([values, {}]))
    await sink.aclose()
    kind = "CHAR" if database == "mariadb" else "TEXT"
    names = ", ".join(f"CAST(c{n} AS {kind}) AS c{n}" for n in range(len(cases)))
    if database != "mariadb":
        url = f"{url}?options=-c%20TimeZone%3DUTC" if database == "postgresql" else url
    with connected(url) as connection:
        if database == "pgbouncer":
            connection.execute(text("SET LOCAL TimeZone = 'UTC'"))
        first, second = connection.execute(text(f"SELECT {names} FROM {unique} ORDER BY ordinal"))
    for (name, value, expected), found in zip(cases, first, strict=True):
        assert found == expected, (name, value)
    assert set(second) == {None}


REFUSED: dict[str, list[tuple[str, Any]]] = {
    "postgresql": [
        ("BIGINT", 1.5), ("UUID", "no"), ("BYTEA", "no base64!"), ("TIMESTAMPTZ", True),
        ("TIMESTAMPTZ", 1e12), ("TIMESTAMP", "yesterday evening"), ("DOUBLE PRECISION[]", ["a"]),
        ("DOUBLE PRECISION[]", 1), ("BIGINT[]", [[1], [2, 3]]), ("TEXT", "a\0b"),
        ("VARCHAR(3)", "abcd"), ("TIME", 7), ("NUMERIC(4, 2)", 1000), ("DATE", "2024-13-01"),
    ],
    "mariadb": [
        ("BIGINT", 1.5), ("BIGINT", "1.5"), ("TINYINT", 128), ("DOUBLE", "NaN"), ("FLOAT", "inf"),
        ("DECIMAL(9, 2)", "Infinity"), ("DECIMAL(4, 2)", 1000), ("ENUM('a', 'b')", 2),
        ("ENUM('a', 'b')", "2"), ("SET('a', 'b')", 3), ("VARCHAR(3)", "abcd"), ("TEXT", LONG),
        ("CHAR(9) CHARACTER SET latin1", "🌡"), ("DATETIME", "2024-13-01"), ("DATE", "2024-02-30"),
        ("TIME", "07:08:09+02:00"), ("TIME", 70809), ("UUID", "no"), ("BLOB", "no base64!"),
        ("DATETIME", "0000-00-00 00:00:00"), ("BIGINT", {"a": 1}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("database", ["postgresql", "pgbouncer", "mariadb"])
async def test_what_a_column_cannot_hold_is_refused_and_never_changed(
    request: pytest.FixtureRequest, database: str, unique: str
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    cases = REFUSED["mariadb" if database == "mariadb" else "postgresql"]
    sink = sql_sink(url, unique)
    await sink.write(window_results(1))
    await sink.aclose()
    run(url, f"DELETE FROM {unique}")
    added = [f"ADD c{n} {kind} NULL" for n, (kind, _) in enumerate(cases)]
    run(url, f"ALTER TABLE {unique} {', '.join(added)}")
    sink = sql_sink(url, unique, columns={f"c{n}": f"c{n}" for n in range(len(cases))})
    data: list[Any] = [{f"c{n}": value} for n, (_, value) in enumerate(cases)]
    with pytest.raises(SinkRejectedError) as caught:
        await sink.write(window_results([*data, {}]))
    await sink.aclose()
    refused = set(caught.value.ordinals or ())
    assert [case for n, case in enumerate(cases) if n not in refused] == []
    assert rows(url, f"SELECT ordinal FROM {unique}") == [{"ordinal": len(cases)}]


async def test_what_mariadb_does_not_know_is_told(mariadb_url: str, unique: str) -> None:
    with pytest.raises(SinkRejectedError, match="column 'v': MariaDB and MySQL have neither NaN"):
        await held(mariadb_url, unique, ["NaN"], "float")


async def test_binary_columns_take_bytes(database_url: str, unique: str) -> None:
    kind = {"postgresql": "BYTEA"}.get(dialect_of(database_url), "BLOB")
    await made(database_url, unique, kind)
    data = bytes(range(256))
    found = await held(database_url, unique, [data, b"", b64encode(data).decode()])
    assert [bytes(value) for value in found] == [data, b"", data]


async def test_values_that_pydantic_writes_arrive(database_url: str, unique: str) -> None:
    sink = sql_sink(
        database_url,
        unique,
        columns={"v": {"field": "v", "type": "timestamp"}},
    )
    await sink.write(window_results([Typed(v=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC))]))
    await sink.aclose()
    [row] = rows(database_url, f"SELECT v FROM {unique}")
    assert moment(row["v"]) == datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


async def test_a_row_says_which_message_it_comes_from(database_url: str, unique: str) -> None:
    columns = {
        "seq": {"message": "sequence"},
        "at": {"message": "time"},
        "subject": {"message": "subject"},
    }
    sink = sql_sink(database_url, unique, columns=columns)
    messages = {
        0: Message(b"", "in.a", None, 7, 1_714_979_289_123_456_789),
        1: Message(b"", "in.b", None, 2**40, 1_714_979_290_000_000_000),
    }
    await sink.write(replace(window_results(2), messages=messages))
    await sink.write(window_results(1, base_id="of a window"))
    await sink.aclose()
    found = rows(database_url, f"SELECT seq, at, subject FROM {unique} ORDER BY base_id DESC, 1")
    assert found.pop(0) == {"seq": None, "at": None, "subject": None}
    assert [row["seq"] for row in found] == [7, 2**40]
    assert [row["subject"] for row in found] == ["in.a", "in.b"]
    assert moment(found[0]["at"]) == datetime(2024, 5, 6, 7, 8, 9, 123456, UTC)


def test_a_task_writes_the_message_of_each_result(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'results.db'}"
    columns = {"seq": {"message": "sequence"}, "at": {"message": "time"}, "y": "y"}
    sinks = {"sql-0": sql_sink(url, "results", columns=columns)}
    model = FakeModel(lambda request: v2_response(y=[0.5] * 3))
    with TaskTester(product, "ex_1", model=model, sinks=sinks, start=1_714_979_289) as task:
        task.feed(*samples(3))
        task.advance("5s")
    found = rows(url, "SELECT seq, at, y FROM results ORDER BY ordinal")
    assert [row["seq"] for row in found] == [1, 2, 3]
    assert {moment(row["at"]) for row in found} == {datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)}
