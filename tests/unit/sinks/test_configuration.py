"""What a task may say about sinks, and what it is told when it is wrong."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from typing import Any
from urllib.parse import unquote

import pytest
from sqlalchemy.engine import make_url

import sinfer
from sinfer.config.model import ConfigModel
from sinfer.errors import ConfigError
from sinfer.sinks import Sink, SqlSink
from sinfer.sinks.header_value import header_value

SMALLEST: dict[str, dict[str, Any]] = {
    "jetstream": {"subject": "out.w1"},
    "sql": {"url": "sqlite:///results.db", "table": "results"},
    "redis_stream": {"url": "redis://localhost", "stream": "results"},
    "http": {"url": "https://example.org/results"},
    "jsonl": {"path": "results.jsonl"},
    "log": {},
}


def validated(type_name: str, **settings: Any) -> ConfigModel:
    config: ConfigModel = Sink.validator()({"type": type_name, **SMALLEST[type_name], **settings})
    return config


def test_all_sinks_are_known_once_sinfer_is_imported() -> None:
    assert sinfer.Sink is Sink
    assert set(SMALLEST) <= set(Sink.registry)


@pytest.mark.parametrize("type_name", SMALLEST)
def test_the_smallest_configuration_is_enough_and_unknown_keys_are_refused(type_name: str) -> None:
    assert validated(type_name, name="mine").model_dump()["type"] == type_name
    with pytest.raises(ValueError, match="extra_forbidden"):
        validated(type_name, subjct="x")


@pytest.mark.parametrize(
    ("type_name", "settings", "text"),
    [
        ("jetstream", {"subject": "out.>"}, "without wildcards"),
        ("jetstream", {"subject": "out..a"}, "without wildcards"),
        ("jetstream", {"subject": "out a"}, "without wildcards"),
        ("jetstream", {"subject": ""}, "without wildcards"),
        ("jetstream", {"stream": "a.b"}, "pattern"),
        ("jetstream", {"servers": []}, "at least 1"),
        ("sql", {"url": "results.db"}, "is a database URL"),
        ("sql", {"url": "oracle://host/db"}, "'oracle' is not supported; use sqlite"),
        ("sql", {"table": "a; DROP TABLE b"}, "pattern"),
        ("sql", {"schema": "a.b"}, "pattern"),
        ("sql", {"columns": {"a b": "y"}}, "pattern"),
        ("sql", {"columns": {"Item_Key": "y"}}, "'item_key' is a column of the sink itself"),
        ("sql", {"table": "public.preds"}, "write 'schema: public' beside 'table: preds'"),
        ("sql", {"schema": "public"}, "SQLite has no schemas"),
        ("sql", {"columns": {"a": "x", "A": "y"}}, "differ in upper and lower case only"),
        ("sql", {"columns": {"a": {"type": "text"}}}, "either a 'field' .* or a part of its 'mess"),
        ("sql", {"columns": {"a": {"field": "x", "message": "time"}}}, "either a 'field'"),
        ("sql", {"columns": {"a": {"message": "headers"}}}, "'sequence', 'time' or 'subject'"),
        ("redis_stream", {"url": "http://localhost"}, "redis://"),
        ("redis_stream", {"maxlen": 0}, "greater than or equal to 1"),
        ("http", {"url": "example.org"}, "http://"),
        ("http", {"url": "ftp://example.org"}, "http://"),
        ("http", {"headers": {"a b": "c"}}, "no name of a header"),
        ("http", {"headers": {"a": "b\nc"}}, "characters that no header may have"),
        ("http", {"headers": {"a": "${SINFER_TEST_UNSET}"}}, "SINFER_TEST_UNSET is not set"),
        ("log", {"limit": -1}, "greater than or equal to 0"),
    ],
)
def test_what_cannot_work_is_refused(type_name: str, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        validated(type_name, **settings)


@pytest.mark.parametrize(
    ("type_name", "settings"),
    [
        ("sql", {"url": "postgresql://me:${SINFER_TEST_TOKEN}@host/db"}),
        ("redis_stream", {"url": "redis://:${SINFER_TEST_TOKEN}@host"}),
        ("http", {"url": "https://host/?t=${SINFER_TEST_TOKEN}"}),
        ("http", {"headers": {"Authorization": "Bearer ${SINFER_TEST_TOKEN}"}}),
    ],
)
def test_secrets_come_from_the_environment_and_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, type_name: str, settings: dict[str, Any]
) -> None:
    monkeypatch.setenv("SINFER_TEST_TOKEN", "s3cret")
    config = validated(type_name, **settings)
    assert "s3cret" not in f"{config!r} {config.model_dump_json()}"


def test_a_schema_reads_as_it_is_written() -> None:
    config = SqlSink.Config.model_validate(
        {"url": "postgresql://host/db", "table": "results", "schema": "mine"}
    )
    assert config.schema_ == "mine"
    assert config.model_dump()["schema"] == "mine"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("sqlite://", "in memory are lost"),
        ("sqlite:///:memory:", "in memory are lost"),
        ("postgresql+asyncpg://host/db", "asyncpg"),
        ("mysql+mysqlconnector://host/db", r"'mysql' is not installed; .* 'sinfer\[mysql\]'"),
        ("postgresql+psycopg2://host/db", r"write postgresql:// and .* 'sinfer\[postgresql\]'"),
        ("postgresql+nothing://host/db", "no driver that SQLAlchemy knows"),
        ("postgresql://host:port/db", "is no database URL"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_when_the_sink_is_made(url: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        SqlSink(SqlSink.Config(url=url, table="results"))


def test_without_sqlalchemy_sinfer_works_and_the_sql_sink_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['sqlalchemy'] = None\n"
        "import sinfer.sinks\n"
        "try:\n"
        "    sinfer.sinks.SqlSink(sinfer.sinks.SqlSink.Config(url='sqlite:///x', table='t'))\n"
        "except sinfer.ConfigError as error:\n"
        "    print(error)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    assert "pip install 'sinfer[sql]'" in told


def test_the_script_of_the_redis_stream_is_installed_with_the_package() -> None:
    assert files("sinfer.sinks.redis_stream").joinpath("append.lua").is_file()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ex_1/in.w1/k%2F1/0", "ex_1/in.w1/k%2F1/0"),
        ("a b~!", "a b~!"),
        ("ü", "%C3%BC"),
        ("a\r\nb\x7f\x00", "a%0D%0Ab%7F%00"),
    ],
)
def test_a_header_value_is_the_id_with_unprintable_characters_escaped(
    text: str, value: str
) -> None:
    assert header_value(text) == value


@pytest.mark.parametrize(
    "name",
    [
        "results; DROP TABLE users", 'results"', "results`", "results--", "r/**/s", "results\n",
        "results\x00", "a.b", "résultats", "results x", "1results", "", "r" * 64, "${SINFER_TABLE}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["table", "schema", "column"])
def test_a_name_in_sql_is_plain_or_refused(name: str, place: str) -> None:
    settings = {"columns": {name: "y"}} if place == "column" else {place: name}
    told = "is one name" if (name, place) == ("a.b", "table") else "pattern"
    with pytest.raises(ValueError, match=told):
        validated("sql", **settings)


@pytest.mark.parametrize(
    "password", ["plain", "p@ss/w:rd?#[]", "100%", "a b", "ü%zz", "%40%2f", "quoted%40value"]
)
def test_a_password_from_the_environment_need_not_be_quoted_for_the_url(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("SINFER_TEST_PASSWORD", password)
    config = SqlSink.Config(
        url="postgresql://me:${SINFER_TEST_PASSWORD}@db.example/results", table="results"
    )
    url = make_url(config.url.get_secret_value())
    assert (url.username, url.host, url.database) == ("me", "db.example", "results")
    is_quoted = password in ("%40%2f", "quoted%40value")
    assert url.password == (unquote(password) if is_quoted else password)


@pytest.mark.parametrize(
    ("dialect", "module", "extra"),
    [("postgresql", "psycopg", "postgresql"), ("mysql", "pymysql", "mysql"),
     ("mariadb", "pymysql", "mysql")],
)  # fmt: skip
def test_a_missing_driver_is_told_with_its_extra(dialect: str, module: str, extra: str) -> None:
    program = (
        "import sys\n"
        "from importlib.abc import MetaPathFinder\n"
        "class Missing(MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('psycopg', 'psycopg2', 'pymysql', 'MySQLdb'):\n"
        "            raise ModuleNotFoundError(f'No module named {name}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import importlib.util\n"
        "find = importlib.util.find_spec\n"
        "def none(name, package=None):\n"
        "    try:\n"
        "        return find(name, package)\n"
        "    except ModuleNotFoundError:\n"
        "        return None\n"
        "importlib.util.find_spec = none\n"
        "import sinfer.sinks\n"
        "for make in (\n"
        f"    lambda: sinfer.sinks.SqlSink(sinfer.sinks.SqlSink.Config(url='{dialect}://h/d', "
        "table='t')),\n"
        f"    lambda: sinfer.SqlTaskManager('{dialect}://h/d', 'SELECT 1')._connected_engine(),\n"
        "):\n"
        "    try:\n"
        "        make()\n"
        "    except sinfer.ConfigError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.count(f"is not installed; pip install 'sinfer[{extra}]'") == 2
