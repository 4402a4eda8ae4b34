"""Whom the errors of databases blame."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from sinfer.sinks.sql.errors import Blame, blame, error_text, is_over


class FromDriver(Exception):
    """As PyMySQL raises it: the number, the text, and the server's SQLSTATE beside them."""

    def __init__(self, number: int, sqlstate: str) -> None:
        super().__init__(number, "text")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("number", "sqlstate", "expected"),
    [
        (1021, "HY000", "passing"),  # disk full
        (1040, "08004", "passing"),  # too many connections
        (1205, "HY000", "passing"),  # lock wait time-out
        (1142, "42000", "passing"),  # no privilege
        (1264, "22003", "value"),  # out of range
        (4025, "23000", "value"),  # CHECK constraint
        (1048, "23000", "value"),  # NULL into NOT NULL
        (1146, "42S02", "unclear"),  # no such table
    ],
)
def test_a_number_of_mysql_says_more_than_its_sqlstate(
    number: int, sqlstate: str, expected: Blame
) -> None:
    error: Any = OperationalError("INSERT", {}, FromDriver(number, sqlstate))
    assert blame(error) == expected


class FromPsycopg(Exception):
    """As psycopg raises it."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__("text")
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("25006", "passing"),  # a standby, or a read-only transaction
        ("25P03", "passing"),  # idle in transaction for too long
        ("53300", "passing"),  # too many connections
        ("57P01", "passing"),  # terminated by an administrator
        ("22P02", "value"),
        ("42846", "unclear"),  # no such cast
    ],
)
def test_a_state_of_postgresql_says_whose_fault_it_is(state: str, expected: Blame) -> None:
    error: Any = OperationalError("INSERT", {}, FromPsycopg(state))
    assert blame(error) == expected


def test_only_deadlocks_and_lost_connections_are_worth_another_try_at_once() -> None:
    deadlocks = [FromPsycopg("40P01"), FromPsycopg("40001"), FromDriver(1213, "40001")]
    assert all(is_over(OperationalError("INSERT", {}, error)) for error in deadlocks)
    lost = OperationalError("INSERT", {}, Exception("gone"), connection_invalidated=True)
    assert is_over(lost)
    others = [FromPsycopg("55P03"), FromDriver(1205, "HY000"), Exception("no server")]
    assert not any(is_over(OperationalError("INSERT", {}, error)) for error in others)
    assert not is_over(TimeoutError())


def test_a_driver_that_gives_all_that_the_server_sent_is_understood_and_no_row_quoted() -> None:
    sent = {"S": "ERROR", "C": "23502", "M": "null value in column", "D": "Failing row: secret"}
    error: Any = OperationalError("INSERT", {}, Exception(sent))
    assert (blame(error), error_text(error)) == ("value", "null value in column")
    closed = {"C": "42501", "M": "permission denied for table t", "R": "aclcheck_error"}
    assert blame(OperationalError("INSERT", {}, Exception(closed))) == "passing"
