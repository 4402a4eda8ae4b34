"""What an error of a database or its driver says about the rows in hand.

=========  ==============================================  ====================================
blame      what happened                                   what the writer does
=========  ==============================================  ====================================
value      PostgreSQL 22, 23, 44; MySQL's errors of data   finds the row; it is refused
           and constraints; SQLite constraint, mismatch,
           too big; a value that its column cannot be given
passing    lost connections, deadlocks, time-outs, full    hands all back, to be written again
           disks, shutdown, read-only servers, missing
           privileges
unclear    everything else: casts, syntax, row security,   finds the rows; one that is refused
           missing columns, what triggers raise            alone while others are taken is
                                                           refused, else all are handed back
=========  ==============================================  ====================================
"""

from __future__ import annotations

import sqlite3
from typing import Any, Literal

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    SQLAlchemyError,
    StatementError,
    TimeoutError,
)

Blame = Literal["value", "passing", "unclear"]

_POSTGRESQL: dict[str, Blame] = {
    "22": "value",  # data exception
    "23": "value",  # integrity constraint violation
    "44": "value",  # with check option violation
    "08": "passing",  # connection exception
    "08P01": "unclear",  # protocol violation: a parameter may be malformed
    "25006": "passing",  # read-only: a standby
    "25P03": "passing",  # idle in transaction for too long
    "25P04": "passing",  # a transaction that took too long
    "26000": "passing",  # a prepared statement that a pooler has elsewhere
    "28": "passing",  # invalid authorization
    "40": "passing",  # rollback: deadlocks, serialization
    "53": "passing",  # insufficient resources
    "55P03": "passing",  # lock not available
    "57": "passing",  # operator intervention: shutdown, time-outs
    "58": "passing",  # system error
}
"""By the SQLSTATE, or by its class, the first two characters."""

_NO_PRIVILEGE = ("42501", "aclcheck_error")
"""SQLSTATE and function of PostgreSQL: a table or schema is closed to the user. Row security and
triggers refuse single rows with the same state."""

_MYSQL_VALUES = frozenset(
    {
        1048,  # column cannot be NULL
        1062, 1169, 1557, 1586, 1761, 1762,  # duplicate
        1216, 1217, 1451, 1452,  # foreign keys
        1263, 1264, 1265, 1292, 1300, 1364, 1365, 1366, 1367, 1406, 1411, 1416, 1425, 1426, 1439,
        1441, 1690, 1748,  # out of range, truncated, incorrect, too long, no default
        1526, 1591,  # no partition for the value
        3140, 3141, 3143, 3144, 3146, 3147, 3150, 3154, 3156, 3157, 3158, 3903, 4038,  # JSON
        3813, 3819, 4025,  # CHECK constraints
        4078, 4079,  # types that cannot be cast (MariaDB)
    }
)  # fmt: skip

_MYSQL_PASSING = frozenset(
    {
        1021, 1037, 1038, 1040, 1041, 1042, 1043, 1044, 1045, 1047, 1049, 1053, 1077, 1078,
        1079, 1080, 1099, 1100, 1114, 1129, 1130, 1142, 1143, 1152, 1154, 1155, 1156, 1157, 1158,
        1159, 1160, 1161, 1180, 1181, 1184, 1203, 1205, 1206, 1213, 1223, 1226, 1227, 1290, 1317,
        1370, 1412, 1428, 1614, 1637, 1698, 1792, 1820, 1836, 1862, 1927, 1969, 3024, 3032, 3100,
        3101, 3118, 3572, 4031, 4151,
    }
)  # fmt: skip
"""Full disks and memory, lost connections, limits and privileges of users, locks, shutdown,
read-only servers."""

_MYSQL_OF_CLIENT = range(2000, 3000)
"""Errors of the driver's own: no server, a lost connection."""

_SQLITE: dict[int, Blame] = {
    sqlite3.SQLITE_CONSTRAINT: "value",
    sqlite3.SQLITE_MISMATCH: "value",
    sqlite3.SQLITE_TOOBIG: "value",
    sqlite3.SQLITE_RANGE: "value",
    sqlite3.SQLITE_ERROR: "unclear",
    sqlite3.SQLITE_INTERNAL: "unclear",
    sqlite3.SQLITE_SCHEMA: "unclear",
    sqlite3.SQLITE_MISUSE: "unclear",
}
"""By the primary result code; all others pass or are put right from outside: locks, full disks."""


def blame(error: BaseException) -> Blame:
    """What raised this: a value in the rows, something that passes, or that is not clear."""
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return "passing"
        return _of_code(error) or _of_class(error)
    if isinstance(error, StatementError):  # a value that its column cannot even be given
        return "value"
    if isinstance(error, OSError | MemoryError | DisconnectionError | TimeoutError):
        return "passing"
    if isinstance(error, OverflowError | UnicodeError):
        return "value"
    return "unclear"


def is_over(error: BaseException) -> bool:
    """Whether the same may go well at once: a deadlock is broken, a connection was lost."""
    if not isinstance(error, DBAPIError):
        return False
    number = error.orig.args[0] if error.orig is not None and error.orig.args else None
    is_deadlock = _state(error.orig) in ("40001", "40P01") or number == 1213
    return error.connection_invalidated or is_deadlock


def _of_code(error: DBAPIError) -> Blame | None:
    """By the code of the server; None where the driver raised the error by itself."""
    orig = error.orig
    if isinstance(orig, sqlite3.Error):
        code = getattr(orig, "sqlite_errorcode", None)
        return None if code is None else _SQLITE.get(code & 0xFF, "passing")
    number = orig.args[0] if orig is not None and orig.args else None
    if isinstance(number, int):  # MySQL's; their SQLSTATE, which drivers may tell too, says less
        if number in _MYSQL_VALUES:
            return "value"
        if number <= 0 or number in _MYSQL_PASSING or number in _MYSQL_OF_CLIENT:
            return "passing"
        return "unclear"
    state = _state(orig)
    if isinstance(state, str) and len(state) == 5:
        function = getattr(getattr(orig, "diag", None), "source_function", None)
        function = function or _fields(orig).get("R")
        if (state, function) == _NO_PRIVILEGE:
            return "passing"
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2], "unclear")
    return None


def _state(orig: BaseException | None) -> Any:
    """The SQLSTATE, wherever a driver has it."""
    found = getattr(orig, "sqlstate", None) or getattr(orig, "pgcode", None)
    return found or _fields(orig).get("C")


def _fields(orig: BaseException | None) -> dict[str, str]:
    """What PostgreSQL sent, by its letters, as pg8000 gives it; else nothing."""
    first = orig.args[0] if orig is not None and orig.args else None
    return first if isinstance(first, dict) else {}


def _of_class(error: DBAPIError) -> Blame:
    if isinstance(error, DataError | IntegrityError):
        return "value"
    if isinstance(error, OperationalError | InterfaceError):
        return "passing"
    return "unclear"


def error_text(error: BaseException) -> str:
    """What went wrong, on one line; further lines quote whole rows."""
    cause: BaseException = error
    if isinstance(error, StatementError) and error.orig is not None:
        cause = error.orig
    text = _fields(cause).get("M") or str(cause)
    first_line = next(iter(text.splitlines()), "")
    if isinstance(cause, DBAPIError) or isinstance(error, SQLAlchemyError):
        return first_line or type(cause).__name__
    return f"{type(cause).__name__}: {first_line}".removesuffix(": ")
