"""`sinfer check` asks databases whether the sql sink could write, and changes nothing in them."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, inspect, select, table, text
from sqlalchemy.engine import make_url

from sinfer.sinks import SqlSink
from sinfer.types.check import Checked
from tests.support.until import until
from tests.support.window_results import window_results

OF_THE_SINK = (
    "ordinal bigint, revision int, attempt int, window_id text, task text, {q}partition{q} text,"
    " {q}key{q} text, window_end {time}, close_reason varchar(32), result {json},"
    " written_at {time}"
)


async def checked(url: str, table: str, **settings: object) -> Checked:
    sink = SqlSink(SqlSink.Config(url=url, table=table, timeout="2s", **settings))
    try:
        [found] = await sink.check()
    finally:
        await sink.aclose()
    assert "hunter2" not in found.text
    return found


async def made(url: str, table: str) -> None:
    """Have the sink make its table."""
    sink = SqlSink(SqlSink.Config(url=url, table=table))
    await sink.write(window_results([{"y": 1}]))
    await sink.aclose()


def executed(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        connection.commit()
    engine.dispose()


def content(url: str) -> dict[str, int]:
    """The tables of a database, and how many rows each has."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = {
            name: int(
                connection.execute(select(func.count()).select_from(table(name))).scalar_one()
            )
            for name in inspect(connection).get_table_names()
        }
    engine.dispose()
    return found


def content_of(directory: Path) -> list[Path]:
    return list(directory.iterdir())


def as_user(url: str, user: str, **changes: Any) -> str:
    return make_url(url).set(username=user, password="hunter2", **changes).render_as_string(False)


@pytest.fixture(params=["postgresql", "mariadb"])
def server_url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def user(server_url: str, unique: str) -> Iterator[str]:
    """A user who may connect and no more, and whose password is looked at."""
    if server_url.startswith("postgresql"):
        executed(
            server_url,
            f"CREATE USER {unique} PASSWORD 'hunter2'",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        )
        yield unique
        executed(server_url, f"DROP OWNED BY {unique}", f"DROP USER {unique}")
    else:
        executed(
            server_url,
            f"CREATE USER {unique} IDENTIFIED BY 'hunter2'",
            f"CREATE TABLE only_{unique} (x int)",
            f"GRANT SELECT ON only_{unique} TO {unique}",
        )
        yield unique
        executed(server_url, f"DROP USER {unique}", f"DROP TABLE only_{unique}")


async def test_a_table_that_is_there_or_may_be_made_is_well(database_url: str, unique: str) -> None:
    found = await checked(database_url, unique)
    assert found.verdict == "ok"
    assert "by the first result" in found.text
    await made(database_url, unique)
    before = content(database_url)
    found = await checked(database_url, unique)
    assert (found.verdict, "fits" in found.text) == ("ok", True)
    assert content(database_url) == before


async def test_a_missing_column_is_named(database_url: str, unique: str) -> None:
    await made(database_url, unique)
    found = await checked(database_url, unique, columns={"score": "score"})
    assert (found.verdict, found.field) == ("error", "table")
    assert f"table '{unique}' has no column 'score'" in found.text


async def test_rights_to_write_are_looked_at(server_url: str, unique: str, user: str) -> None:
    url = as_user(server_url, user)
    found = await checked(url, unique)
    assert (found.verdict, found.field) == ("error", "table")
    assert re.search("this user may not make it|this user has no right to", found.text)
    await made(server_url, unique)
    for right, lacks in (("SELECT", "INSERT"), ("INSERT", "UPDATE"), ("UPDATE", "DELETE")):
        executed(server_url, f"GRANT {right} ON {unique} TO {user}")
        found = await checked(url, unique)
        assert found.verdict == "error", right
        assert f"{lacks}" in found.text
        assert "grant it" in found.text
    executed(server_url, f"GRANT DELETE ON {unique} TO {user}")
    assert (await checked(url, unique)).verdict == "ok"
    assert content(server_url)[unique] == 1


async def test_columns_of_other_types_are_told(server_url: str, unique: str) -> None:
    is_mysql = server_url.startswith("mariadb")
    own = OF_THE_SINK.format(
        q="`" if is_mysql else '"',
        time="datetime" if is_mysql else "timestamptz",
        json="json" if is_mysql else "jsonb",
    )
    window = "`window`" if is_mysql else '"window"'
    executed(
        server_url,
        f"CREATE TABLE {unique} ({window} int, window_start int, {own},"
        f" PRIMARY KEY ({window}, ordinal))",
    )
    sink = SqlSink(SqlSink.Config(url=server_url, table=unique))
    found = await sink.check()
    assert found[0].verdict == "error"
    assert "window is INTEGER, and takes text" in found[0].text
    assert "window_start is INTEGER, and takes datetime" in found[0].text


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        ({"host": "no.such.host.invalid"}, "unreachable", "has a name that cannot be resolved"),
        ({"port": 1}, "unreachable", "refuses connections"),
        ({"database": "missing"}, "error", "no such database|does not let this user in"),
    ],
    ids=["name", "port", "database"],
)
async def test_what_is_wrong_with_an_address_is_told_apart(
    server_url: str, user: str, change: dict[str, Any], verdict: str, words: str
) -> None:
    found = await checked(as_user(server_url, user, **change), "t")
    assert (found.verdict, found.field) == (verdict, "url")
    assert re.search(words, found.text)


def demand_password(url: str, user: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        file = Path(connection.execute(text("SHOW hba_file")).scalar_one())
        file.write_text(f"host all {user} 127.0.0.1/32 scram-sha-256\n{file.read_text()}")
        connection.execute(text("SELECT pg_reload_conf()"))
    engine.dispose()


async def test_a_wrong_password_is_told(server_url: str, user: str) -> None:
    if server_url.startswith("postgresql"):
        demand_password(server_url, user)
    url = make_url(server_url).set(username=user, password="wrong").render_as_string(False)

    async def is_about_the_url() -> bool:
        return (await checked(url, "t")).field == "url"

    await until(is_about_the_url, "the file to be read")
    found = await checked(url, "t")
    assert found.verdict == "error"
    assert "refuses the user or password" in found.text
    assert (await checked(as_user(server_url, user), "t")).field != "url"


async def test_a_database_that_hangs_costs_seconds(server_url: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = make_url(server_url).set(port=silent.getsockname()[1]).render_as_string(False)
        found = await checked(url, "t")
    assert found.verdict == "unreachable"
    assert found.is_silent
    assert "does not answer in time" in found.text


async def test_a_schema_that_is_missing_is_told(server_url: str) -> None:
    found = await checked(server_url, "t", schema="nowhere")
    assert found.verdict == "error"
    assert re.search("there is no (schema|database) 'nowhere'", found.text)


async def test_a_file_of_sqlite_is_not_made(tmp_path: Path) -> None:
    found = await checked(f"sqlite:///{tmp_path / 'new.db'}", "t")
    assert found.verdict == "ok"
    assert content_of(tmp_path) == []
    found = await checked(f"sqlite:///{tmp_path / 'nowhere' / 'new.db'}", "t")
    assert (found.verdict, found.field) == ("error", "url")
    assert f"there is no directory {tmp_path / 'nowhere'}; make it" in found.text
