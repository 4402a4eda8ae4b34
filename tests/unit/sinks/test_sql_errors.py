"""Whom the errors of databases blame."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.exc import OperationalError

from sinfer.sinks.sql_errors import Blame, blame


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
