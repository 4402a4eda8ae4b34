"""Whether Celery's broker answers, and what to do where it does not."""

from __future__ import annotations

import asyncio

from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError, NoPermissionError

from sinfer.store.connection import tls_problem
from sinfer.tasks.application import make_app
from sinfer.types.check import Verdict

_TIMEOUT_S = 5


async def broker_answers() -> tuple[Verdict, str]:
    """Whether it takes connections, and a text that says so."""
    try:
        async with asyncio.timeout(2 * _TIMEOUT_S):
            await asyncio.to_thread(_connect)
    except (OperationalError, OSError, TimeoutError) as error:
        if (reason := tls_problem(error)) is not None:
            return "error", f"the Celery broker {reason}"
        reason = str(error) or type(error).__name__
        if isinstance(error.__cause__, AuthenticationError | NoPermissionError):
            text = f"the Celery broker refuses the user or password ({reason})"
            return "error", f"{text}; correct them in SINFER_BROKER_URL"
        text = f"the Celery broker does not answer ({reason})"
        return "unreachable", f"{text}; see SINFER_BROKER_URL"
    return "ok", "the Celery broker answers"


def _connect() -> None:
    with make_app([]).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_S)
