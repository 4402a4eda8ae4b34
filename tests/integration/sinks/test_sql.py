"""The sql sink on SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.dialects.mysql.reserved_words import (
    RESERVED_WORDS_MARIADB,
    RESERVED_WORDS_MYSQL,
)
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS

from sinfer.embedded.child_process import free_port
from sinfer.errors import SinkRejectedError, SinkUnavailableError
from sinfer.sinks import SqlSink
from sinfer.sinks.sql.columns import base_columns
from sinfer.sinks.sql.sink import OWN_COLUMNS
from tests.support.window_results import current, message_results, window_results


def sql_sink(url: str, table: str, **settings: Any) -> SqlSink:
    return SqlSink(SqlSink.Config(url=url, table=table, **settings))


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    engine = create_engine(url)
    with engine.connect() as connection:
        if engine.dialect.name in ("mysql", "mariadb"):
            connection.execute(text("SET time_zone = '+00:00'"))
        yield connection
        connection.commit()
    engine.dispose()


def rows(url: str, statement: str) -> list[dict[str, Any]]:
    with connected(url) as connection:
        return [dict(row) for row in connection.execute(text(statement)).mappings()]


def run(url: str, *statements: str) -> None:
    with connected(url) as connection:
        for statement in statements:
            connection.execute(text(statement))


BINARY = " COLLATE utf8mb4_bin"


def quoted(url: str, name: str) -> str:
    return f"`{name}`" if "mysql" in url or "mariadb" in url else f'"{name}"'


def utc(value: Any) -> datetime:
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


async def test_a_row_says_where_its_result_comes_from(database_url: str, unique: str) -> None:
    sink = sql_sink(database_url, unique)
    await sink.write(window_results([{"y": 1}], start_ms=1_700_000_000_001, key="a", attempt=2))
    await sink.aclose()
    [row] = rows(database_url, f"SELECT * FROM {unique}")
    assert set(row) == OWN_COLUMNS == {column.name for column in base_columns()}
    result = row.pop("result")
    assert (result if isinstance(result, dict) else json.loads(result)) == {"y": 1}
    assert utc(row.pop("window_start")) == datetime(2023, 11, 14, 22, 13, 20, 1000, UTC)
    assert utc(row.pop("window_end")) == datetime(2023, 11, 14, 22, 13, 25, 0, UTC)
    assert abs((datetime.now(UTC) - utc(row.pop("written_at"))).total_seconds()) < 60
    assert row == {
        "base_id": "ex_1/in.w1/all/0",
        "ordinal": 0,
        "revision": 0,
        "attempt": 2,
        "window_id": "ex_1/in.w1/all/0/0",
        "task": "ex_1",
        "source_partition": "in.w1",
        "item_key": "a",
        "close_reason": "time",
    }


async def test_count_windows_have_no_times(database_url: str, unique: str) -> None:
    sink = sql_sink(database_url, unique)
    await sink.write(window_results(1, start_ms=None, end_ms=None))
    await sink.aclose()
    [row] = rows(database_url, f"SELECT window_start, window_end FROM {unique}")
    assert row == {"window_start": None, "window_end": None}


async def test_a_later_attempt_replaces_and_an_earlier_does_not(
    database_url: str, unique: str
) -> None:
    sink = sql_sink(database_url, unique)
    for attempt in (2, 1, 3, 2):
        await sink.write(window_results([attempt], attempt=attempt))
    await sink.aclose()
    [row] = rows(database_url, f"SELECT attempt, result FROM {unique}")
    assert (row["attempt"], str(row["result"])) == (3, "3")


async def test_a_revision_with_fewer_results_leaves_none_of_the_older(
    database_url: str, unique: str
) -> None:
    sink = sql_sink(database_url, unique)
    first, second = window_results(4), window_results(2, revision=1)
    for window in (first, second, first, window_results(3, base_id="other")):
        await sink.write(window)
    found = rows(database_url, f"SELECT window_id, ordinal FROM {unique} ORDER BY 1, 2")
    assert [tuple(row.values()) for row in found] == [
        ("ex_1/in.w1/all/0/1", 0),
        ("ex_1/in.w1/all/0/1", 1),
        *(("other/0", i) for i in range(3)),
    ]
    await sink.write(window_results(0, revision=2))
    await sink.aclose()
    assert len(rows(database_url, f"SELECT 1 FROM {unique}")) == 3


async def test_ids_that_differ_in_case_are_different_windows(
    database_url: str, unique: str
) -> None:
    sink = sql_sink(database_url, unique)
    await sink.write(window_results(1, base_id="a/b"))
    await sink.write(window_results(1, base_id="A/b"))
    await sink.aclose()
    assert len(rows(database_url, f"SELECT 1 FROM {unique}")) == 2


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
async def test_a_table_too_narrow_for_stream_sequences_waits_until_it_is_widened(
    request: pytest.FixtureRequest, database: str, unique: str
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    first = sql_sink(url, unique)
    await first.write(message_results(1))
    await first.aclose()
    alter = f"ALTER TABLE {unique} " + (
        "ALTER COLUMN ordinal TYPE {}" if database == "postgresql" else "MODIFY ordinal {} NOT NULL"
    )
    run(url, alter.format("INTEGER"))
    sink = sql_sink(url, unique)
    await sink.write(message_results(2))
    with pytest.raises(SinkUnavailableError, match=r"'ordinal' .* BIGINT"):
        await sink.write(message_results(2**31))
    run(url, alter.format("BIGINT"))
    await sink.write(message_results(2**31))
    await sink.aclose()
    found = rows(url, f"SELECT ordinal FROM {unique} ORDER BY 1")
    assert [row["ordinal"] for row in found] == [1, 2, 2**31]


async def test_mapped_columns_are_made_with_their_types(database_url: str, unique: str) -> None:
    columns = {
        "score": {"field": "y", "type": "float"},
        "label": {"field": "label", "type": "text"},
        "extra": "extra",
    }
    sink = sql_sink(database_url, unique, columns=columns)
    await sink.write(
        window_results([{"y": 0.5, "label": "ü", "extra": {"a": [1]}}, {"y": 2}, "text"])
    )
    await sink.aclose()
    found = rows(database_url, f"SELECT score, label, extra FROM {unique} ORDER BY ordinal")
    extra = found[0].pop("extra")
    assert (extra if isinstance(extra, dict) else json.loads(extra)) == {"a": [1]}
    assert found[0] == {"score": 0.5, "label": "ü"}
    assert found[1] == {"score": 2, "label": None, "extra": None}
    assert found[2] == {"score": None, "label": None, "extra": None}


async def test_a_table_that_exists_is_used_with_the_types_of_its_columns(
    database_url: str, unique: str
) -> None:
    await _make_by_sink(database_url, unique)
    run(
        database_url,
        f"ALTER TABLE {unique} ADD score NUMERIC(9, 2)",
        f"ALTER TABLE {unique} ADD seen TIMESTAMP NULL",
        f"ALTER TABLE {unique} ADD tags VARCHAR(40)",
    )
    columns = {"score": "y", "seen": "t", "tags": "tags"}
    sink = sql_sink(database_url, unique, columns=columns)
    await sink.write(window_results([{"y": 1.25, "t": "2024-05-06 07:08:09", "tags": ["a"]}]))
    await sink.aclose()
    [row] = rows(database_url, f"SELECT score, seen, tags FROM {unique}")
    assert float(row["score"]) == 1.25
    assert str(row["seen"]) == "2024-05-06 07:08:09"
    assert row["tags"] == '["a"]'


async def _make_by_sink(url: str, table: str) -> None:
    sink = sql_sink(url, table)
    await sink.write(window_results(1))
    await sink.aclose()
    run(url, f"DELETE FROM {table}")


async def test_a_table_without_the_columns_is_told_and_used_once_they_are_there(
    database_url: str, unique: str
) -> None:
    await _make_by_sink(database_url, unique)
    sink = sql_sink(database_url, unique, columns={"score": "y", "label": "l"})
    with pytest.raises(SinkUnavailableError, match=f"'{unique}' has no column 'score', 'label'"):
        await sink.write(window_results(1))
    run(
        database_url,
        f"ALTER TABLE {unique} ADD score FLOAT",
        f"ALTER TABLE {unique} ADD label VARCHAR(9)",
    )
    await sink.write(window_results(1))
    await sink.aclose()
    assert len(rows(database_url, f"SELECT 1 FROM {unique}")) == 1


async def test_a_table_without_the_key_is_told(database_url: str, unique: str) -> None:
    await _make_by_sink(database_url, f"{unique}_made")
    run(database_url, f"CREATE TABLE {unique} AS SELECT * FROM {unique}_made")
    sink = sql_sink(database_url, unique)
    with pytest.raises(SinkUnavailableError, match="no primary key or unique index"):
        await sink.write(window_results(1))
    await sink.aclose()


async def test_a_table_dropped_meanwhile_is_made_again(database_url: str, unique: str) -> None:
    sink = sql_sink(database_url, unique)
    await sink.write(window_results(1))
    run(database_url, f"DROP TABLE {unique}")
    await sink.write(window_results(1))
    await sink.aclose()
    assert len(rows(database_url, f"SELECT 1 FROM {unique}")) == 1


async def test_a_refused_window_does_not_take_others_with_it(
    database_url: str, unique: str
) -> None:
    await _make_by_sink(database_url, unique)
    run(database_url, f"CREATE UNIQUE INDEX {unique}_i ON {unique} (revision, attempt, ordinal)")
    windows = [window_results(1, base_id=f"w{i}", attempt=1 + i % 7) for i in range(8)]
    sink = sql_sink(database_url, unique)
    done = await asyncio.gather(*(sink.write(w) for w in windows), return_exceptions=True)
    await sink.aclose()
    if database_url.startswith("mariadb"):
        # There any unique key makes an upsert; nothing is refused.
        assert done == [None] * 8
    else:
        assert done[:7] == [None] * 7
        assert isinstance(done[7], SinkRejectedError)
        assert len(rows(database_url, f"SELECT 1 FROM {unique}")) == 7


async def test_values_that_do_not_fit_are_refused(database_url: str, unique: str) -> None:
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite takes any value")
    await _make_by_sink(database_url, unique)
    run(database_url, f"ALTER TABLE {unique} ADD label VARCHAR(3)")
    sink = sql_sink(database_url, unique, columns={"label": "l"})
    with pytest.raises(SinkRejectedError) as caught:
        await sink.write(window_results([{"l": "too long and secret"}]))
    await sink.aclose()
    assert "too long and secret" not in str(caught.value)


async def test_a_row_locked_elsewhere_is_waited_for_and_then_reported(
    database_url: str, unique: str
) -> None:
    sink = sql_sink(database_url, unique, timeout="1s")
    await sink.write(window_results([1]))
    with connected(database_url) as other:
        other.execute(text(f"UPDATE {unique} SET attempt = 1"))
        with pytest.raises(SinkUnavailableError):
            await sink.write(window_results([2], attempt=2))
    await sink.write(window_results([2], attempt=2))
    await sink.aclose()
    assert rows(database_url, f"SELECT attempt FROM {unique}") == [{"attempt": 2}]


async def test_writers_that_share_windows_in_random_order_never_deadlock(
    database_url: str, unique: str
) -> None:
    writers, count = 6, 60
    await _make_by_sink(database_url, unique)
    failures: list[BaseException] = []
    together = threading.Barrier(writers)

    async def write_all(writer: int) -> None:
        chooser = random.Random(writer)
        sink = sql_sink(database_url, unique, timeout="30s")
        windows = [window_results(5, base_id=f"w{i:03}", attempt=writer + 1) for i in range(count)]
        for _ in range(3):
            chooser.shuffle(windows)
            done = await asyncio.gather(
                *(sink.write(window) for window in windows), return_exceptions=True
            )
            failures.extend(error for error in done if error is not None)
        await sink.aclose()

    def work(writer: int) -> None:
        together.wait()
        asyncio.run(write_all(writer))

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert failures == []
    found = rows(database_url, f"SELECT DISTINCT attempt, COUNT(*) AS n FROM {unique} GROUP BY 1")
    assert found == [{"attempt": writers, "n": 5 * count}]


async def test_writers_that_make_the_table_at_once_all_write(
    database_url: str, unique: str
) -> None:
    failures: list[BaseException] = []
    together = threading.Barrier(4)

    async def write(writer: int) -> None:
        sink = sql_sink(database_url, unique)
        try:
            await sink.write(window_results(1, base_id=f"w{writer}"))
        except SinkUnavailableError as error:
            failures.append(error)
        await sink.aclose()

    def work(writer: int) -> None:
        together.wait()
        asyncio.run(write(writer))

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert failures == []
    assert len(rows(database_url, f"SELECT 1 FROM {unique}")) == 4


async def test_sinks_of_a_process_share_a_connection(postgresql_url: str, unique: str) -> None:
    # Without a driver in the URL, the one that is installed is taken.
    url = postgresql_url.replace("+psycopg", "")
    sinks = [sql_sink(url, unique) for _ in range(3)]
    for i, sink in enumerate(sinks):
        await sink.write(window_results(1, base_id=f"w{i}"))
    open_now = "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%{}%' AND pid <> pg_backend_pid()"
    assert len(rows(postgresql_url, open_now.format(unique))) <= 1
    await sinks[0].aclose()
    await sinks[1].write(window_results(1, base_id="w9"))
    for sink in sinks[1:]:
        await sink.aclose()
    assert rows(postgresql_url, open_now.format(unique)) == []


@pytest.mark.parametrize(
    "url", ["postgresql://u:s3cret@127.0.0.1:{}/db", "mariadb+pymysql://u:s3cret@127.0.0.1:{}/db"]
)
async def test_a_database_that_is_away_is_reported_without_its_password(url: str) -> None:
    sink = sql_sink(url.format(free_port()), "results", timeout="2s")
    with pytest.raises(SinkUnavailableError, match=r"127\.0\.0\.1") as caught:
        await sink.write(window_results(1))
    await sink.aclose()
    assert "s3cret" not in f"{caught.value!r} {caught.value.__cause__!r} {sink.__dict__!r}"


async def test_a_file_that_cannot_be_opened_is_reported(tmp_path: Path) -> None:
    sink = sql_sink(f"sqlite:///{tmp_path / 'missing' / 'results.db'}", "results")
    with pytest.raises(SinkUnavailableError, match="unable to open"):
        await sink.write(window_results(1))
    await sink.aclose()


HOSTILE = [
    "'; DROP TABLE {table}; --",
    '"); DELETE FROM {table}; --',
    "` OR 1=1 #",
    "\\' OR ''='",
    "%s %(window)s :window ? $1 {{0}}",
    "/* */ ; SELECT pg_sleep(1)",
    "line\nbreak\ttab",
]


async def test_hostile_texts_are_values_and_nothing_else(database_url: str, unique: str) -> None:
    texts = [text.format(table=unique) for text in HOSTILE]
    columns: dict[str, Any] = {"select": {"field": "'; --", "type": "text"}}
    sink = sql_sink(database_url, unique, columns=columns)
    for place, hostile in enumerate(texts):
        await sink.write(
            window_results(
                [{"'; --": hostile, hostile: hostile}],
                base_id=f"ex_1/in/{hostile}/{place}",
                key=hostile,
                task=hostile,
            )
        )
    await sink.aclose()
    found = {row["item_key"]: row for row in rows(database_url, f"SELECT * FROM {unique}")}
    assert found.keys() == set(texts)
    for place, hostile in enumerate(texts):
        row = found[hostile]
        assert (row["task"], row["select"]) == (hostile, hostile)
        assert row["base_id"] == f"ex_1/in/{hostile}/{place}"
        result = row["result"] if isinstance(row["result"], dict) else json.loads(row["result"])
        assert result[hostile] == hostile


async def test_a_table_may_be_called_like_a_word_of_sql(database_url: str) -> None:
    sink = sql_sink(database_url, "order")
    await sink.write(window_results(2, base_id="a/b/c/d"))
    await sink.write(window_results(2, base_id="a/b/c/d"))
    await sink.aclose()
    quote = "`" if "mysql" in database_url or "mariadb" in database_url else '"'
    assert len(rows(database_url, f"SELECT * FROM {quote}order{quote}")) == 2
    run(database_url, f"DROP TABLE {quote}order{quote}")


async def test_products_and_incarnations_share_a_table(database_url: str, unique: str) -> None:
    sink = sql_sink(database_url, unique)
    window = window_results(20)
    for results in (
        window,
        current(window),
        current(window, incarnation="inc.1"),
        current(replace(window, product="another")),
    ):
        await sink.write(results)
    await sink.aclose()
    assert len(rows(database_url, f"SELECT 1 FROM {unique}")) == 80


async def test_long_names_of_windows_keep_their_rows_apart_where_the_column_is_short(
    database_url: str, unique: str
) -> None:
    sink = sql_sink(database_url, unique)
    await sink.write(window_results(1))
    await sink.aclose()
    run(database_url, f"DROP TABLE {unique}")
    columns = ", ".join(
        f'{quoted(database_url, name)} {kind} NOT NULL'
        for name, kind in (
            ("window", f"VARCHAR(100){BINARY if '`' in quoted(database_url, '') else ''}"),
            ("ordinal", "BIGINT"), ("revision", "INTEGER"), ("attempt", "INTEGER"),
            ("window_id", "TEXT"), ("task", "TEXT"), ("partition", "TEXT"), ("key", "TEXT"),
            ("close_reason", "TEXT"), ("result", "TEXT"),
        )
    )  # fmt: skip
    moments = ", ".join(
        f"{name} {'TIMESTAMPTZ' if 'postgresql' in database_url else 'DATETIME'}"
        for name in ("window_start", "window_end", "written_at")
    )
    key = f"PRIMARY KEY ({quoted(database_url, 'window')}, ordinal)"
    run(database_url, f"CREATE TABLE {unique} ({columns}, {moments}, {key})")
    sink = sql_sink(database_url, unique)
    for key in ("a", "b"):
        for attempt in (1, 2):
            await sink.write(window_results(2, base_id=f"{'k' * 200}{key}", attempt=attempt))
    await sink.aclose()
    found = rows(database_url, f"SELECT {quoted(database_url, 'window')} AS w FROM {unique}")
    assert len(found) == 4
    assert {len(row["w"]) for row in found} == {100}


async def test_a_table_that_ignores_case_is_refused(database_url: str, unique: str) -> None:
    if "postgresql" in database_url:
        pytest.skip("PostgreSQL ignores case only where an extension is loaded")
    sink = sql_sink(database_url, unique)
    await sink.write(window_results(1))
    await sink.aclose()
    if "sqlite" in database_url:
        [made] = rows(database_url, f"SELECT sql FROM sqlite_master WHERE name = '{unique}'")
        statement = made["sql"].replace('"base_id" TEXT', '"base_id" TEXT COLLATE NOCASE')
        run(database_url, f"DROP TABLE {unique}", statement)
    else:
        run(
            database_url,
            f"ALTER TABLE {unique} MODIFY base_id VARCHAR(512) COLLATE utf8mb4_general_ci",
        )
    sink = sql_sink(database_url, unique)
    with pytest.raises(SinkUnavailableError, match="'base_id' takes upper and lower case"):
        await sink.write(window_results(1))
    await sink.aclose()


EARLIER = {
    "sqlite": (
        'CREATE TABLE {0} ("window" TEXT NOT NULL, ordinal BIGINT NOT NULL, revision INTEGER NOT'
        " NULL, attempt INTEGER NOT NULL, window_id TEXT NOT NULL, task TEXT NOT NULL,"
        ' "partition" TEXT NOT NULL, "key" TEXT NOT NULL, window_start DATETIME, window_end'
        " DATETIME, close_reason VARCHAR(32) NOT NULL, result TEXT NOT NULL, written_at DATETIME"
        ' NOT NULL, extra JSON, PRIMARY KEY ("window", ordinal))'
    ),
    "postgresql": (
        'CREATE TABLE {0} ("window" TEXT NOT NULL, ordinal BIGINT NOT NULL, revision INTEGER NOT'
        " NULL, attempt INTEGER NOT NULL, window_id TEXT NOT NULL, task TEXT NOT NULL,"
        ' "partition" TEXT NOT NULL, "key" TEXT NOT NULL, window_start TIMESTAMPTZ, window_end'
        " TIMESTAMPTZ, close_reason VARCHAR(32) NOT NULL, result JSONB NOT NULL, written_at"
        ' TIMESTAMPTZ NOT NULL, extra JSONB, PRIMARY KEY ("window", ordinal))'
    ),
    "mariadb": (
        "CREATE TABLE {0} (`window` VARCHAR(512) COLLATE utf8mb4_bin NOT NULL, ordinal BIGINT NOT"
        " NULL, revision INTEGER NOT NULL, attempt INTEGER NOT NULL, window_id TEXT COLLATE"
        " utf8mb4_bin NOT NULL, task TEXT COLLATE utf8mb4_bin NOT NULL, `partition` TEXT COLLATE"
        " utf8mb4_bin NOT NULL, `key` TEXT COLLATE utf8mb4_bin NOT NULL, window_start DATETIME(6),"
        " window_end DATETIME(6), close_reason VARCHAR(32) NOT NULL, result JSON NOT NULL,"
        " written_at DATETIME(6) NOT NULL, extra JSON, PRIMARY KEY (`window`, ordinal))"
        " ENGINE=InnoDB"
    ),
}
"""What version 0.1 made."""


async def test_a_table_of_an_earlier_version_goes_on_with_its_names(
    database_url: str, unique: str
) -> None:
    run(database_url, EARLIER[database_url.partition(":")[0].partition("+")[0]].format(unique))
    sink = sql_sink(database_url, unique, columns={"extra": "y"})
    first, second = window_results([{"y": "7"}, {"y": 2}]), window_results([{"y": 3}], revision=1)
    for results in (first, second, first):
        await sink.write(results)
    assert await sink.stored([second]) == [{0: 1}]
    await sink.aclose()
    window, key, partition = (quoted(database_url, name) for name in ("window", "key", "partition"))
    [row] = rows(database_url, f"SELECT {window} AS w, {key} AS k, {partition} AS p FROM {unique}")
    assert row == {"w": "ex_1/in.w1/all/0", "k": "all", "p": "in.w1"}
    sink = sql_sink(database_url, unique, columns={"key": "y"})
    with pytest.raises(SinkUnavailableError, match="'key' is a column of the sink itself there"):
        await sink.write(first)
    await sink.aclose()


async def test_no_column_of_our_own_has_to_be_quoted(database_url: str, unique: str) -> None:
    sink = sql_sink(database_url, unique)
    await sink.write(window_results(1))
    await sink.aclose()
    names = ", ".join(sorted(OWN_COLUMNS))
    assert len(rows(database_url, f"SELECT {names} FROM {unique} ORDER BY {names}")) == 1
    assert not OWN_COLUMNS & (RESERVED_WORDS_MYSQL | RESERVED_WORDS_MARIADB | RESERVED_WORDS)


WORDS = [
    "key", "window", "partition", "start", "end", "time", "order", "group", "user", "select",
    "rows", "rank", "desc", "default", "limit", "offset", "check", "primary", "range", "groups",
    "row", "value", "values", "table", "timestamp", "date", "index", "Upper", "excluded", "old",
    "r", "rows_1", "revision_", "session_user", "system", "lateral", "a" * 63,
]  # fmt: skip


async def test_columns_may_be_called_like_words_of_sql(database_url: str, unique: str) -> None:
    sink = sql_sink(database_url, f"{unique}_Order", columns={word: word for word in WORDS})
    for attempt in (1, 2):
        await sink.write(window_results([{w: [w, attempt] for w in WORDS}], attempt=attempt))
    await sink.aclose()
    [row] = rows(database_url, f"SELECT * FROM {quoted(database_url, f'{unique}_Order')}")
    for word in WORDS:
        found = row[word] if isinstance(row[word], list) else json.loads(row[word])
        assert found == [word, 2]


async def test_a_column_is_found_however_the_database_spells_it(
    mariadb_url: str, unique: str
) -> None:
    await _make_by_sink(mariadb_url, unique)
    run(mariadb_url, f"ALTER TABLE {unique} ADD Score DOUBLE")
    sink = sql_sink(mariadb_url, unique, columns={"score": "y"})
    await sink.write(window_results([{"y": 0.5}]))
    await sink.aclose()
    assert rows(mariadb_url, f"SELECT score FROM {unique}") == [{"score": 0.5}]


@pytest.mark.parametrize("database", ["postgresql", "pgbouncer", "mariadb"])
async def test_a_schema_of_its_own_holds_the_table(
    request: pytest.FixtureRequest, database: str, unique: str
) -> None:
    """A table of the same name and other columns in the connection's own schema is not touched."""
    url = request.getfixturevalue(f"{database}_url")
    run(url, f"CREATE TABLE results_{unique} (n INTEGER)")
    columns = {"score": {"field": "y", "type": "float"}, "j": "j"}
    sink = sql_sink(url, f"results_{unique}", schema=f"S_{unique}", columns=columns)
    with pytest.raises(SinkUnavailableError, match=f"S_{unique}"):
        await sink.write(window_results([{"y": 1, "j": "7"}]))
    run(url, f"CREATE SCHEMA {quoted(url, f'S_{unique}')}")
    for attempt in (1, 2):
        await sink.write(window_results([{"y": attempt, "j": "7"}], attempt=attempt))
    assert await sink.stored([window_results(1)]) == [{0: 1}]
    await sink.aclose()
    table = f"{quoted(url, f'S_{unique}')}.results_{unique}"
    assert rows(url, f"SELECT score, attempt FROM {table}") == [{"score": 2.0, "attempt": 2}]
    assert rows(url, f"SELECT * FROM results_{unique}") == []


async def test_a_table_is_found_by_the_search_path(postgresql_url: str, unique: str) -> None:
    """Its type is that of the table there, and not of one that comes later in the path."""
    run(postgresql_url, f"CREATE SCHEMA {unique}")
    url = f"{postgresql_url}?options=-csearch_path%3D{unique},public"
    first = sql_sink(postgresql_url, unique, columns={"v": "v"})
    await first.write(window_results([{"v": 1}]))
    later = sql_sink(url, unique, columns={"v": "v"})
    await later.write(window_results([{"v": 2}], attempt=2))
    await first.aclose()
    await later.aclose()
    assert rows(postgresql_url, f"SELECT v FROM public.{unique}") == [{"v": 2}]


@pytest.mark.parametrize(
    "index",
    ["ON {} (base_id, ordinal) WHERE revision = 0", "ON {} (base_id, ordinal, lower(task))"],
)
async def test_a_unique_index_of_something_else_is_no_key(
    postgresql_url: str, unique: str, index: str
) -> None:
    await _make_by_sink(postgresql_url, f"{unique}_made")
    run(
        postgresql_url,
        f"CREATE TABLE {unique} AS SELECT * FROM {unique}_made",
        f"CREATE UNIQUE INDEX ON {index.removeprefix('ON ').format(unique)}",
    )
    sink = sql_sink(postgresql_url, unique)
    with pytest.raises(SinkUnavailableError, match="of all rows and whole values"):
        await sink.write(window_results(1))
    run(postgresql_url, f"CREATE UNIQUE INDEX ON {unique} (ordinal, base_id)")
    await sink.write(window_results(1))
    await sink.aclose()


async def test_a_unique_index_on_beginnings_of_names_is_no_key(
    mariadb_url: str, unique: str
) -> None:
    await _make_by_sink(mariadb_url, f"{unique}_made")
    run(
        mariadb_url,
        f"CREATE TABLE {unique} AS SELECT * FROM {unique}_made",
        f"CREATE UNIQUE INDEX i ON {unique} (base_id(20), ordinal)",
    )
    sink = sql_sink(mariadb_url, unique)
    with pytest.raises(SinkUnavailableError, match="of all rows and whole values"):
        await sink.write(window_results(1))
    await sink.aclose()


async def test_a_table_that_ignores_case_by_its_own_default_is_refused(
    mariadb_url: str, unique: str
) -> None:
    await _make_by_sink(mariadb_url, f"{unique}_made")
    run(
        mariadb_url,
        f"CREATE TABLE {unique} LIKE {unique}_made",
        f"ALTER TABLE {unique} CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    )
    sink = sql_sink(mariadb_url, unique)
    with pytest.raises(SinkUnavailableError, match="'base_id' takes upper and lower case"):
        await sink.write(window_results(1))
    await sink.aclose()


async def test_to_ask_what_a_file_has_does_not_make_it(tmp_path: Path) -> None:
    file = tmp_path / "results.sqlite"
    sink = sql_sink(f"sqlite:///{file}", "results")
    try:
        [found] = await sink.stored([window_results(2)]) or []
    finally:
        await sink.aclose()
    assert found == {0: 0, 1: 0}
    assert not file.exists()
