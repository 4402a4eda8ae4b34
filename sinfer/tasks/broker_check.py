"""Whether Celery's broker answers, and what to do where it does not."""

from __future__ import annotations

import asyncio

from amqp.exceptions import AMQPError, NotAllowed
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from sinfer.store.connection import tls_problem
from sinfer.tasks.application import make_app
from sinfer.tasks.broker_errors import CLUSTER, broker_problem, is_refused
from sinfer.types.check import Verdict

_TIMEOUT_S = 5


async def broker_answers() -> tuple[Verdict, str]:
    """Whether it takes connections, and a text that says so."""
    try:
        async with asyncio.timeout(2 * _TIMEOUT_S):
            await asyncio.to_thread(_connect)
    except (OperationalError, OSError, TimeoutError, AMQPError, RedisError) as error:
        if (reason := tls_problem(error)) is not None:
            return "error", f"the Celery broker {reason}"
        reason = broker_problem(error)
        if is_refused(error) or is_refused(error.__cause__):
            text = f"the Celery broker refuses the user or password ({reason})"
            return "error", f"{text}; correct them in SINFER_BROKER_URL"
        if isinstance(error, NotAllowed):
            text = f"the Celery broker refuses the virtual host ({reason})"
            return "error", f"{text}; it is what follows the port in SINFER_BROKER_URL"
        if CLUSTER in reason:
            return "error", f"the Celery broker cannot be used: {reason}"
        text = f"the Celery broker does not answer ({reason})"
        return "unreachable", f"{text}; see SINFER_BROKER_URL"
    return "ok", "the Celery broker answers"


def _connect() -> None:
    with make_app([]).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_S)
        connection.default_channel  # noqa: B018  (is refused by what cannot be a broker)
