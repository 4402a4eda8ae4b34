"""Databases for the sql sink, one server of each kind for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.sinks import databases
from tests.integration.sinks.receiver import Receiver


@pytest.fixture(scope="session")
def postgresql_url() -> Iterator[str]:
    with databases.postgresql() as url:
        yield url


@pytest.fixture(scope="session")
def pgbouncer_url(postgresql_url: str) -> Iterator[str]:
    """PostgreSQL behind a pooler that gives each transaction another connection."""
    with databases.pgbouncer(postgresql_url) as url:
        yield url


@pytest.fixture(scope="session")
def mariadb_url() -> Iterator[str]:
    """With defaults that nobody would choose, as servers in the field have them."""
    settings = (
        "--character-set-server=latin1", "--sql-mode=ANSI_QUOTES",
        "--default-time-zone=+05:30", "--default-storage-engine=Aria",
    )  # fmt: skip
    with databases.mariadb(*settings) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql", "pgbouncer", "mariadb"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each dialect."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'results.db'}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running
