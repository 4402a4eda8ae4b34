"""Tasks in a database table."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from sinfer.errors import ConfigError, SinferError, UnavailableError
from sinfer.extras import extras_named
from sinfer.products.managers import DEFAULT_REFRESH_S, BrokenTask, Listed, TaskManager
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.sql.url import resolved_url

if TYPE_CHECKING:
    from sqlalchemy import Engine

C = TypeVar("C", bound=InferTaskConfig)

Row = Mapping[str, Any]


class SqlTaskManager(TaskManager[C]):
    """Reads tasks from a database: one row, one task.

    By default each column is a setting of the name that the query gives it, with dots for nested
    ones; NULL leaves a setting out, and a JSON column gives a whole part::

        SqlTaskManager(
            "postgresql://sinfer:${DB_PASSWORD}@db/plants",
            'SELECT id, subject AS "source.subject", "window" FROM tasks WHERE active',
            defaults={"source": {"stream": "IN"}, "inference": {...}, "sinks": [...]},
        )

    With ``json_column`` the task is the object in that column, as JSON or as text. For anything
    else, override ``task``.

    A row that cannot be understood is reported by its ``id`` column. While the database is gone,
    the last known tasks stay in force.

    Args:
        url: SQLAlchemy's form; may refer to the environment as ``${NAME}``. Masked wherever it is
            shown.
        query: what to ask.
        json_column: the column that holds whole tasks.
        defaults: settings of all tasks; those of a row go before.
        parameters: values of the query's ``:name`` parameters.
        refresh: how often to ask, in seconds.
        timeout: longest wait for an answer, in seconds.

    Raises:
        ConfigError: the URL cannot be used, or SQLAlchemy or the driver is not installed.
    """

    def __init__(
        self,
        url: str,
        query: str,
        *,
        json_column: str | None = None,
        defaults: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        refresh: float = DEFAULT_REFRESH_S,
        timeout: float = 10.0,
    ) -> None:
        self._url = SecretStr(url)
        self._query = query
        self._json_column = json_column
        self._defaults = dict(defaults or {})
        self._parameters = dict(parameters or {})
        self.refresh = refresh
        self._timeout_s = timeout
        self._engine: Engine | None = None
        self._engine_pid = 0
        self._asking: asyncio.Future[list[Row]] | None = None

    async def list_tasks(self) -> Listed[C]:
        """A task of each row.

        Raises:
            UnavailableError: the database does not answer, or refuses the query.
            ConfigError: the URL cannot be used.
        """
        listed: list[C | Mapping[str, Any] | BrokenTask] = []
        for place, row in enumerate(await self._rows(), 1):
            try:
                listed.append(_merged(self._defaults, self.task(row)))
            except Exception as error:  # a subclass' own code; another row may well be right
                task_id = row.get("id")
                where = f"row {place}" if task_id is None else f"task {str(task_id)!r}"
                problem = str(error) if isinstance(error, SinferError) else repr(error)
                listed.append(BrokenTask(where, problem, None if task_id is None else str(task_id)))
        return listed

    def task(self, row: Row) -> Mapping[str, Any]:
        """The settings of the task in a row; the ``defaults`` are added to them.

        Args:
            row: its columns by name.

        Raises:
            ConfigError: the row holds no task; the text names the column.
        """
        if self._json_column is None:
            return _nested(row)
        if self._json_column not in row:
            raise ConfigError(f"column {self._json_column!r} is not among those of the query")
        settings = _from_json(self._json_column, row[self._json_column])
        if "id" in row and "id" not in settings:
            settings = {"id": row["id"], **settings}
        return settings

    # --- asking ---

    async def _rows(self) -> list[Row]:
        if self._asking is not None and not self._asking.done():
            raise UnavailableError(
                f"the task database {self._shown_url()} did not answer the last query yet"
            )
        # Not the loop's threads, which a database that never answers would use up.
        self._asking = _in_thread(self._ask)
        try:
            return await asyncio.wait_for(asyncio.shield(self._asking), self._timeout_s)
        except TimeoutError:
            raise UnavailableError(
                f"the task database {self._shown_url()} did not answer within {self._timeout_s:g}s"
            ) from None

    def _ask(self) -> list[Row]:
        from sqlalchemy import text
        from sqlalchemy.exc import SQLAlchemyError

        from sinfer.sinks.sql.database import sqlite_file

        engine = self._connected_engine()
        if (file := sqlite_file(engine.url)) is not None and not file.exists():
            # To connect would make it.
            raise UnavailableError(
                f"the task database {self._shown_url()} cannot be read: there is no file {file}"
            )
        try:
            with engine.connect() as connection:
                found = connection.execute(text(self._query), self._parameters)
                return [dict(row) for row in found.mappings()]
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            reason = next(iter(str(cause).splitlines()), "") or type(cause).__name__
            raise UnavailableError(
                f"the task database {self._shown_url()} cannot be read: {self._masked(reason)}"
            ) from None

    def _connected_engine(self) -> Engine:
        """The engine of this process; without a pool, so that no connection crosses a fork."""
        if self._engine is None or self._engine_pid != os.getpid():
            self._engine = _make_engine(self._resolved_url(), self._timeout_s)
            self._engine_pid = os.getpid()
        return self._engine

    def _resolved_url(self) -> str:
        try:
            return resolved_url(self._url.get_secret_value())
        except ValueError as error:
            raise ConfigError(f"SqlTaskManager: url: {error}") from None

    def _shown_url(self) -> str:
        from sqlalchemy.engine import make_url

        return make_url(self._resolved_url()).render_as_string(hide_password=True)

    def _masked(self, text: str) -> str:
        from sqlalchemy.engine import make_url

        password = make_url(self._resolved_url()).password
        return text.replace(str(password), "***") if password else text

    def __repr__(self) -> str:
        return f"<SqlTaskManager {self._query!r}>"


def _make_engine(url: str, timeout_s: float) -> Engine:
    with extras_named("SqlTaskManager: "):
        from sqlalchemy import NullPool, create_engine
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError

        from sinfer.sinks.sql.database import connect_args, missing_driver, with_driver
    try:
        parsed = with_driver(make_url(url))
        return create_engine(
            parsed,
            poolclass=NullPool,
            hide_parameters=True,
            connect_args=connect_args(parsed, timeout_s),
        )
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ConfigError(
            "SqlTaskManager: url: is no database URL that can be used; write"
            " dialect://user:password@host/database"
        ) from None
    except ImportError as error:
        raise ConfigError(f"SqlTaskManager: url: {missing_driver(make_url(url), error)}") from None


def _in_thread(call: Callable[[], list[Row]]) -> asyncio.Future[list[Row]]:
    """Run a function in a thread of its own, which may outlive the process's wish to end."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[list[Row]] = loop.create_future()

    def settle(result: list[Row] | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
            future.exception()  # nobody may be waiting any more
        else:
            future.set_result(result or [])

    def run() -> None:
        try:
            result, error = call(), None
        except BaseException as problem:
            result, error = None, problem
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="sinfer-tasks-sql", daemon=True).start()
    return future


def _from_json(column: str, value: Any) -> Mapping[str, Any]:
    if isinstance(value, str | bytes | bytearray):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ConfigError(f"column {column!r} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"column {column!r} must hold an object, not {type(value).__name__}")
    return value


def _nested(row: Row) -> dict[str, Any]:
    """``{"source.subject": x}`` as ``{"source": {"subject": x}}``."""
    settings: dict[str, Any] = {}
    for name, value in row.items():
        if value is None:
            continue
        *parents, last = name.split(".")
        place = settings
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise ConfigError(f"column {name!r}: {parent!r} is a column of its own as well")
        place[last] = _part(value)
    return settings


def _part(value: Any) -> Any:
    """A value as a setting; text that is a JSON object or list is a part of the task."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _merged(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, and the defaults that they do not give, at every depth.

    Parts that name different types are not mixed.
    """
    merged = deepcopy(dict(defaults))
    for name, value in settings.items():
        known = merged.get(name)
        if isinstance(known, dict) and isinstance(value, Mapping):
            same_type = value.get("type", known.get("type")) == known.get("type")
            merged[name] = _merged(known if same_type else {}, value)
        else:
            merged[name] = value
    return merged
