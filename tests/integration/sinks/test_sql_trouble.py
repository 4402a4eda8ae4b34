"""What servers and poolers do to the connections of the sql sink, and what it makes of that."""

from __future__ import annotations

import asyncio
import threading

import pytest
from sqlalchemy import make_url, text

from sinfer.errors import SinkUnavailableError
from tests.integration.sinks import databases
from tests.integration.sinks.test_sql import connected, rows, run, sql_sink
from tests.support.until import until
from tests.support.window_results import window_results


@pytest.mark.parametrize("database", ["postgresql", "pgbouncer", "mariadb"])
async def test_connections_that_the_server_ends_cost_no_write(
    request: pytest.FixtureRequest, database: str, unique: str
) -> None:
    """Between two writes, and in the middle of one that waits for a lock."""
    url = request.getfixturevalue(f"{database}_url")
    sink = sql_sink(url, unique, timeout="20s")
    await sink.write(window_results([1]))
    server = request.getfixturevalue(f"{'mariadb' if database == 'mariadb' else 'postgresql'}_url")
    assert _end_connections(server) > 0
    await sink.write(window_results([2], attempt=2))
    with connected(server) as other:
        other.execute(text(f"UPDATE {unique} SET attempt = 2"))
        writing = asyncio.create_task(sink.write(window_results([3], attempt=3)))
        await until(lambda: _end_connections(server, f"INSERT INTO%{unique}%") > 0, "a write")
    await writing
    await sink.aclose()
    assert rows(url, f"SELECT attempt FROM {unique}") == [{"attempt": 3}]


def _end_connections(url: str, statement: str = "%") -> int:
    """End those that have executed such a statement, all but this one; returns how many."""
    if not url.startswith("mariadb"):
        kill = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type = 'client backend' AND query LIKE :query AND state <> :state"
        )
        state = "idle in transaction" if statement != "%" else "none"
        with connected(url) as connection:
            return len(connection.execute(kill, {"query": statement, "state": state}).all())
    find = text(
        "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID()"
        " AND user = 'root' AND COALESCE(info, '') LIKE :query"
    )
    with connected(url) as connection:
        found = list(connection.execute(find, {"query": statement}).scalars())
        for number in found:
            connection.execute(text(f"KILL {number}"))
    return len(found)


async def test_a_pooler_that_restarts_is_an_outage_and_no_more(
    postgresql_url: str, unique: str
) -> None:
    with databases.pgbouncer(postgresql_url) as url:
        port = make_url(url).port
        sink = sql_sink(url, unique, timeout="5s")
        await sink.write(window_results([1]))
    with pytest.raises(SinkUnavailableError, match="refused"):
        await sink.write(window_results([2], attempt=2))
    with databases.pgbouncer(postgresql_url, port=port):
        await sink.write(window_results([2], attempt=2))
        await sink.aclose()
    assert rows(postgresql_url, f"SELECT attempt FROM {unique}") == [{"attempt": 2}]


async def test_a_pooler_of_statements_is_told_what_is_needed(
    postgresql_url: str, unique: str
) -> None:
    with databases.pgbouncer(postgresql_url, pool_mode="statement") as url:
        sink = sql_sink(url, unique)
        with pytest.raises(SinkUnavailableError, match="pool_mode = transaction"):
            await sink.write(window_results(1))
        await sink.aclose()


async def test_what_others_leave_in_a_pooled_connection_changes_nothing_and_we_leave_nothing(
    postgresql_url: str, unique: str
) -> None:
    columns = {"t": {"field": "t", "type": "timestamp"}}
    left = {"lock_timeout": "1ms", "statement_timeout": "50s", "TimeZone": "Asia/Tokyo"}
    with databases.pgbouncer(postgresql_url, pool_size=1) as url:
        with connected(url) as other:
            for name, value in left.items():
                other.execute(text(f"SET {name} = '{value}'"))
        sink = sql_sink(url, unique, columns=columns, timeout="30s")
        for attempt in range(1, 10):
            await sink.write(window_results([{"t": "2024-05-06T07:08:09"}], attempt=attempt))
        with connected(postgresql_url) as holding:
            holding.execute(text(f"UPDATE {unique} SET attempt = 9"))
            writing = asyncio.create_task(sink.write(window_results([{"t": 0}], attempt=10)))
            waiting = (
                "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                f" AND query LIKE 'INSERT INTO%{unique}%'"
            )

            def waits() -> bool:
                assert not writing.done(), writing.exception()
                return bool(rows(postgresql_url, waiting))

            await until(waits, "the write to wait for the lock")
        await writing
        await sink.aclose()
        with connected(url) as other:
            found = {name: other.execute(text(f"SHOW {name}")).scalar() for name in left}
            prepared = other.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar()
    # The pooler itself looks after the time zone, each client's own.
    assert {**found, "TimeZone": "Asia/Tokyo"} == left
    assert prepared == 0
    query = f"SELECT CAST(t AT TIME ZONE 'UTC' AS TEXT) AS t, attempt FROM {unique}"
    assert rows(postgresql_url, query) == [{"t": "1970-01-01 00:00:00", "attempt": 10}]


async def test_writers_behind_a_pooler_get_others_connections_and_write(
    postgresql_url: str, unique: str
) -> None:
    """More writers than connections, each with many transactions."""
    failures: list[BaseException] = []

    async def write(url: str, writer: int) -> None:
        sink = sql_sink(url, unique, columns={"y": "y"})
        for n in range(20):
            try:
                await sink.write(window_results([{"y": n}], base_id=f"{writer}/{n}"))
            except Exception as error:
                failures.append(error)
        await sink.aclose()

    with databases.pgbouncer(postgresql_url, pool_size=2) as url:
        threads = [
            threading.Thread(target=lambda n=n: asyncio.run(write(url, n))) for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
    assert failures == []
    assert len(rows(postgresql_url, f"SELECT 1 FROM {unique}")) == 120


async def test_a_standby_refuses_no_row_whatever_was_taken_between(
    postgresql_url: str, unique: str
) -> None:
    """As in a failover: the same name leads to a server that writes, and to one that does not."""
    sink = sql_sink(postgresql_url, unique)
    await sink.write(window_results([1], base_id="first"))
    standby = sql_sink(f"{postgresql_url}?options=-c%20default_transaction_read_only%3Don", unique)
    for n in range(3):
        with pytest.raises(SinkUnavailableError, match="read-only"):
            await standby.write(window_results([1], base_id="w"))
        await sink.write(window_results([1], base_id=f"w{n}"))
    await sink.aclose()
    await standby.aclose()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"])
async def test_no_free_connection_is_an_outage(
    request: pytest.FixtureRequest, database: str, unique: str
) -> None:
    url = request.getfixturevalue(f"{database}_url")
    if database == "postgresql":
        run(url, f"CREATE ROLE {unique} LOGIN CONNECTION LIMIT 0")
        wanted = make_url(url).set(username=unique)
    else:
        run(
            url,
            f"CREATE USER {unique}@'%' WITH MAX_USER_CONNECTIONS 1",
            f"GRANT ALL ON sinfer.* TO {unique}@'%'",
        )
        wanted = make_url(url).set(username=unique)
    sink = sql_sink(wanted.render_as_string(), unique)
    if database == "postgresql":
        with pytest.raises(SinkUnavailableError, match="too many connections"):
            await sink.write(window_results(1))
    else:
        with (
            connected(wanted.render_as_string()),
            pytest.raises(SinkUnavailableError, match="max_user_connections"),
        ):
            await sink.write(window_results(1))
        await sink.write(window_results(1))
    await sink.aclose()


async def test_a_column_that_gets_another_type_is_looked_at_again(
    database_url: str, unique: str
) -> None:
    """Values that it took before and takes no more are refused for what they are now."""
    if database_url.startswith("sqlite"):
        pytest.skip("SQLite changes no types")
    columns = {"v": {"field": "v", "type": "integer"}}
    sink = sql_sink(database_url, unique, columns=columns)
    await sink.write(window_results([{"v": 1}]))
    run(
        database_url,
        f"ALTER TABLE {unique} ALTER COLUMN v TYPE TEXT"
        if not database_url.startswith("mariadb")
        else f"ALTER TABLE {unique} MODIFY v TEXT",
    )
    await sink.write(window_results([{"v": "text"}, {"v": 1.5}], attempt=2))
    await sink.aclose()
    found = rows(database_url, f"SELECT v FROM {unique} ORDER BY ordinal")
    assert [row["v"] for row in found] == ["text", "1.5"]
