"""Rows that a database refuses: they alone, whatever it says to them, on each database."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from sinfer.errors import ConfigError, SinkRejectedError, SinkUnavailableError
from sinfer.sinks import SqlSink
from sinfer.sinks.sql import writer as sql_writer
from sinfer.sinks.sql.refused_rows import RowSearch
from tests.integration.sinks.test_sql import connected, rows, run, sql_sink
from tests.support.window_results import window_results

TYPED = {
    "n": {"field": "n", "type": "integer"},
    "f": {"field": "f", "type": "float"},
    "b": {"field": "b", "type": "boolean"},
    "t": {"field": "t", "type": "text"},
    "j": {"field": "j", "type": "json"},
}
"""Columns of every type that the sink makes."""

REFUSED_BY: dict[str, tuple[dict[str, Any], set[str]]] = {
    # True is a 1 elsewhere, and SQLite's columns take any value.
    "true into integer": ({"n": True}, {"postgresql"}),
    "text into integer": ({"n": "abc"}, {"postgresql", "mariadb"}),
    "list into integer": ({"n": [1]}, {"postgresql", "mariadb"}),
    "out of range": ({"n": 2**63}, {"postgresql", "mariadb", "sqlite"}),
    "far out of range": ({"n": 10**400}, {"postgresql", "mariadb", "sqlite"}),
    "text into float": ({"f": "abc"}, {"postgresql", "mariadb"}),
    "true into float": ({"f": True}, {"postgresql"}),
    "text into boolean": ({"b": "maybe"}, {"postgresql", "mariadb"}),
    "number into boolean": ({"b": 7}, {"postgresql"}),
    "object into boolean": ({"b": {"a": 1}}, {"postgresql", "mariadb"}),
    "U+0000 in a text": ({"t": "a\0b"}, {"postgresql"}),
    "U+0000 in an object": ({"j": {"a\0": "\0"}}, {"postgresql"}),
}


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each dialect; a pooler passes on what they refuse."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


def dialect_of(url: str) -> str:
    return url.partition(":")[0].partition("+")[0]


async def written(sink: SqlSink, data: list[Any], **where: Any) -> list[Any]:
    """Writes a window; returns the ordinals that were refused."""
    try:
        await sink.write(window_results(data, **where))
    except SinkRejectedError as error:
        return sorted(error.ordinals or ["all"])
    return []


async def stored(url: str, table: str, base_id: str) -> list[int]:
    with connected(url) as connection:
        query = text(f"SELECT ordinal FROM {table} WHERE base_id = :base_id ORDER BY 1")
        found = connection.execute(query, {"base_id": base_id})
        return [ordinal for (ordinal,) in found]


async def test_a_value_that_its_column_does_not_take_is_refused_alone(
    database_url: str, unique: str
) -> None:
    """First, in the middle, last, several, and with no other row in its window."""
    sink = sql_sink(database_url, unique, columns=TYPED)
    good: dict[str, Any] = {"n": 1, "f": 0.5, "b": True, "t": "x", "j": {"a": 1}}
    for name, (bad, refusing) in REFUSED_BY.items():
        is_refused = dialect_of(database_url) in refusing
        for at in ([0], [4], [9], [2, 3, 7], None):
            base = f"{name}/{at}"
            count, places = (1, [0]) if at is None else (10, at)
            data = [{**good, **(bad if n in places else {})} for n in range(count)]
            refused = await written(sink, data, base_id=base)
            assert refused == (places if is_refused else []), base
            left = [n for n in range(count) if not (is_refused and n in places)]
            assert await stored(database_url, unique, base) == left, base
    await sink.aclose()


CONSTRAINTS = {
    "too long": ("c VARCHAR(3)", "abcd"),
    "NULL into NOT NULL": ("c VARCHAR(9) NOT NULL DEFAULT ''", None),
    "CHECK": ("c INTEGER CHECK (c < 100)", 100),
    "a date that is none": ("c DATE", "2024-13-45"),
    "a time that is none": ("c TIMESTAMP NULL", "abc"),
    "too many digits": ("c NUMERIC(4, 2)", 1000),
    "unique": ("c VARCHAR(9) UNIQUE", "taken"),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
async def test_a_row_that_breaks_a_constraint_is_refused_alone(
    database_url: str, unique: str, name: str
) -> None:
    column, bad = CONSTRAINTS[name]
    dialect = dialect_of(database_url)
    if dialect == "sqlite" and name not in ("CHECK", "NULL into NOT NULL"):
        pytest.skip("SQLite takes any value, and adds no unique column")
    if dialect == "mariadb" and name == "unique":
        pytest.skip("there any unique key makes an upsert")
    first = sql_sink(database_url, unique)
    await first.write(window_results(1, base_id="first"))
    await first.aclose()
    run(database_url, f"ALTER TABLE {unique} ADD {column}")
    if name == "unique":
        run(database_url, f"UPDATE {unique} SET c = 'taken'")
    good = {"a date that is none": "2024-01-02", "a time that is none": "2024-01-02"}.get(name)
    sink = sql_sink(database_url, unique, columns={"c": "c"})
    data: list[Any] = [
        {"c": good if good else str(n) if "CHAR" in column else n} for n in range(10)
    ]
    data[6] = {"c": bad}
    assert await written(sink, data, base_id="w") == [6]
    assert await stored(database_url, unique, "w") == [0, 1, 2, 3, 4, 5, 7, 8, 9]
    assert await written(sink, [{"c": bad}], base_id="alone") == [0]
    await sink.aclose()


async def test_windows_of_one_transaction_are_not_harmed_by_each_other(
    database_url: str, unique: str
) -> None:
    columns = {"n": {"field": "n", "type": "integer"}}
    sink = sql_sink(database_url, unique, columns=columns)
    bad = 2**64
    windows = [[{"n": bad if w % 5 == 0 and n == 3 else n} for n in range(10)] for w in range(20)]
    found = await asyncio.gather(
        *(written(sink, data, base_id=f"w{w:02}") for w, data in enumerate(windows))
    )
    assert found == [[3] if w % 5 == 0 else [] for w in range(20)]
    for w in range(20):
        left = [n for n in range(10) if w % 5 or n != 3]
        assert await stored(database_url, unique, f"w{w:02}") == left
    await sink.aclose()


async def test_a_row_refused_in_a_revision_does_not_stay_as_it_was(
    database_url: str, unique: str
) -> None:
    columns = {"n": {"field": "n", "type": "integer"}}
    sink = sql_sink(database_url, unique, columns=columns)
    assert await written(sink, [{"n": 1}, {"n": 2}, {"n": 3}], base_id="w") == []
    assert await written(sink, [{"n": 4}, {"n": 2**64}], base_id="w", revision=1) == [1]
    await sink.aclose()
    found = rows(database_url, f"SELECT ordinal, revision, n FROM {unique}")
    assert found == [{"ordinal": 0, "revision": 1, "n": 4}]


async def test_a_table_that_takes_no_row_refuses_none(database_url: str, unique: str) -> None:
    """Somebody altered it: what is written waits, until that is put right."""
    sink = sql_sink(database_url, unique, columns={"t": {"field": "t", "type": "text"}})
    assert await written(sink, [{"t": "a"}], base_id="first") == []
    run(database_url, f"ALTER TABLE {unique} RENAME COLUMN t TO s")
    for _ in range(3):
        with pytest.raises(SinkUnavailableError):
            await sink.write(window_results([{"t": "a"}, {"t": "b"}], base_id="w"))
    run(database_url, f"ALTER TABLE {unique} RENAME COLUMN s TO t")
    assert await written(sink, [{"t": "a"}, {"t": "b"}], base_id="w") == []
    await sink.aclose()
    assert await stored(database_url, unique, "w") == [0, 1]


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
@pytest.mark.parametrize("size", [1, 40])
async def test_privileges_that_are_taken_away_and_given_again_refuse_no_row(
    request: pytest.FixtureRequest, database: str, unique: str, size: int
) -> None:
    """However often that happens, and whatever is written meanwhile."""
    url = request.getfixturevalue(f"{database}_url")
    user, host, table = unique[:16], "", unique
    if database == "postgresql":
        run(url, f"CREATE ROLE {user} LOGIN")
    else:
        host = "@'127.0.0.1'"
        run(url, f"CREATE USER {user}{host}")
        table = f"sinfer.{unique}"
    owner = sql_sink(url, unique)
    assert await written(owner, ["made"], base_id="made") == []
    await owner.aclose()
    grant = f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {user}{host}"
    revoke = f"REVOKE INSERT ON {table} FROM {user}{host}"
    run(url, grant)
    theirs = url.replace("//sinfer@", f"//{user}@").replace("//root@", f"//{user}@")
    sink = sql_sink(theirs, unique)
    for turn in range(3):
        assert await written(sink, ["a"], base_id=f"other{turn}") == []
        run(url, revoke)
        for _ in range(2):
            with pytest.raises(SinkUnavailableError, match="denied"):
                await sink.write(window_results(size, base_id="w"))
        run(url, grant)
    assert await written(sink, list(range(size)), base_id="w") == []
    await sink.aclose()
    assert await stored(url, unique, "w") == list(range(size))


async def test_what_only_the_commit_would_refuse_is_found(postgresql_url: str, unique: str) -> None:
    columns = {"n": {"field": "n", "type": "integer"}}
    sink = sql_sink(postgresql_url, unique, columns=columns)
    assert await written(sink, [{"n": 1}], base_id="first") == []
    run(
        postgresql_url,
        f"ALTER TABLE {unique} ADD CONSTRAINT {unique}_c UNIQUE (n) DEFERRABLE INITIALLY DEFERRED",
    )
    data = [{"n": n} for n in (5, 6, 1, 7)]
    assert await written(sink, data, base_id="w") == [2]
    await sink.aclose()
    assert await stored(postgresql_url, unique, "w") == [0, 1, 3]


@pytest.mark.parametrize(
    ("database", "state"),
    [("postgresql", "P0001"), ("postgresql", "55000"), ("postgresql", "42501"),
     ("mariadb", "45000"), ("mariadb", "42000")],
)  # fmt: skip
async def test_a_row_that_a_trigger_refuses_does_not_wait_for_ever(
    request: pytest.FixtureRequest, database: str, state: str, unique: str
) -> None:
    """What a trigger raises may be said to all rows; once others are taken it is the row's."""
    url = request.getfixturevalue(f"{database}_url")
    columns = {"n": {"field": "n", "type": "integer"}}
    sink = sql_sink(url, unique, columns=columns)
    assert await written(sink, [{"n": 1}], base_id="first") == []
    refuses = "NEW.n IS NULL OR NEW.n > 100"
    if database == "postgresql":
        run(
            url,
            f"CREATE FUNCTION {unique}_f() RETURNS trigger AS $$ BEGIN IF {refuses} THEN"
            f" RAISE EXCEPTION 'not that one' USING ERRCODE = '{state}'; END IF; RETURN NEW;"
            " END $$ LANGUAGE plpgsql",
            f"CREATE TRIGGER {unique}_t BEFORE INSERT ON {unique} FOR EACH ROW"
            f" EXECUTE FUNCTION {unique}_f()",
        )
    else:
        run(
            url,
            f"CREATE TRIGGER {unique}_t BEFORE INSERT ON {unique} FOR EACH ROW BEGIN IF {refuses}"
            f" THEN SIGNAL SQLSTATE '{state}' SET MESSAGE_TEXT = 'not that one'; END IF; END",
        )
    assert await written(sink, [{"n": 1}, {"n": 101}, {"n": 2}], base_id="w") == [1]
    alone = window_results([{"n": 101}], base_id="alone")
    with pytest.raises(SinkUnavailableError, match="not that one"):
        await sink.write(alone)
    with pytest.raises(SinkUnavailableError, match="not that one"):
        await sink.write(alone)
    assert await written(sink, [{"n": 3}], base_id="other") == []
    with pytest.raises(SinkRejectedError, match="not that one"):
        await sink.write(alone)
    await sink.aclose()


async def test_a_row_larger_than_a_packet_is_refused_alone(mariadb_url: str, unique: str) -> None:
    """The server would close the connection, each time again."""
    sink = sql_sink(mariadb_url, unique)
    with connected(mariadb_url) as connection:
        most = connection.execute(text("SELECT @@max_allowed_packet")).scalar_one()
    # Each quote has two bytes in JSON, and four in a statement.
    assert await written(sink, ["a", '"' * (most // 4), "b"], base_id="w") == [1]
    await sink.aclose()
    assert await stored(mariadb_url, unique, "w") == [0, 2]


async def test_a_row_whose_key_fits_in_no_index_is_refused_alone(
    postgresql_url: str, unique: str
) -> None:
    sink = sql_sink(postgresql_url, unique)
    # Random, since what repeats itself is compressed.
    long_id = "".join(f"{n * 2654435761 % 2**32:08x}" for n in range(1000))
    assert await written(sink, ["a"], base_id=long_id) == [0]
    assert await written(sink, ["a"], base_id="short") == []
    await sink.aclose()


def test_a_wrong_option_of_sqlite_is_told_before_anything_is_written(tmp_path: Path) -> None:
    for option in ("no_such_option=1", "timeout=soon"):
        with pytest.raises(ConfigError, match="url: its options cannot be used"):
            sql_sink(f"sqlite:///{tmp_path / 'results.db'}?{option}", "t")


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
async def test_a_wrong_option_in_the_url_refuses_nothing(
    request: pytest.FixtureRequest, database: str, unique: str
) -> None:
    sink = sql_sink(f"{request.getfixturevalue(f'{database}_url')}?no_such_option=1", unique)
    with pytest.raises(SinkUnavailableError, match=r"no_such_option.*correct the options of 'url'"):
        await sink.write(window_results(1))
    await sink.aclose()


async def test_a_locked_row_is_no_refusal_of_it(postgresql_url: str, unique: str) -> None:
    """While rows are looked for, a lock that is waited for in vain is an outage as ever."""
    columns = {"n": {"field": "n", "type": "integer"}}
    sink = sql_sink(postgresql_url, unique, columns=columns, timeout="1s")
    assert await written(sink, [{"n": 1}, {"n": 1}], base_id="w") == []
    with connected(postgresql_url) as other:
        other.execute(text(f"UPDATE {unique} SET attempt = 1 WHERE ordinal = 1"))
        with pytest.raises(SinkUnavailableError):
            await sink.write(window_results([{"n": 2**64}, {"n": 2}], base_id="w", attempt=2))
    assert await written(sink, [{"n": 2**64}, {"n": 2}], base_id="w", attempt=2) == [0]
    await sink.aclose()


@pytest.mark.parametrize("bad", [2**64, True])
async def test_a_search_that_takes_too_long_goes_on_where_it_was(
    postgresql_url: str, unique: str, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    """All rows are refused, by their values or for a cast; each try finds some more."""
    monkeypatch.setattr(sql_writer, "MOST_S", 0.2)
    columns = {"n": {"field": "n", "type": "integer"}}
    sink = sql_sink(postgresql_url, unique, columns=columns)
    data = [{"n": bad if n % 10 else n} for n in range(500)]
    refused: list[Any] = []
    delays: list[str] = []
    while not refused and len(delays) < 100:
        try:
            refused = await written(sink, data, base_id="w")
        except SinkUnavailableError as error:
            delays.append(str(error))
    await sink.aclose()
    assert refused == [n for n in range(500) if n % 10]
    assert all("rows are refused" in text for text in delays)
    assert await stored(postgresql_url, unique, "w") == list(range(0, 500, 10))


def _refuse_all(url: str, table: str) -> None:
    """Have the table refuse every row with an error that may be anybody's."""
    match dialect_of(url):
        case "postgresql":
            run(
                url,
                f"CREATE FUNCTION {table}_f() RETURNS trigger AS"
                " $$ BEGIN RAISE EXCEPTION 'none of them'; END $$ LANGUAGE plpgsql",
                f"CREATE TRIGGER {table}_t BEFORE INSERT ON {table} FOR EACH ROW"
                f" EXECUTE FUNCTION {table}_f()",
            )
        case _:
            run(
                url,
                f"CREATE TRIGGER {table}_t BEFORE INSERT ON {table} FOR EACH ROW"
                " SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'none of them'",
            )


async def test_a_table_that_takes_nothing_is_not_asked_about_each_row(
    database_url: str, unique: str
) -> None:
    if dialect_of(database_url) == "sqlite":
        pytest.skip("there all that a trigger raises is a violated constraint")
    sink = sql_sink(database_url, unique, columns={"t": {"field": "t", "type": "text"}})
    assert await written(sink, [{"t": "a"}], base_id="first") == []
    _refuse_all(database_url, unique)
    asked: list[int] = []
    ask = RowSearch._refusal

    def counted(self: RowSearch, rows: list[Any]) -> Exception | None:
        asked.append(len(rows))
        return ask(self, rows)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(RowSearch, "_refusal", counted)
        with pytest.raises(SinkUnavailableError):
            await sink.write(window_results([{"t": "b"}] * 3000, base_id="w"))
    await sink.aclose()
    assert 0 < len(asked) < 60
