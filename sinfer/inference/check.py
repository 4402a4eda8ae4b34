"""What errors of a model server mean to somebody who only asks whether it is there."""

from __future__ import annotations

import socket
import ssl
from http import HTTPStatus
from typing import Any, Literal

import httpx

from sinfer.errors import InferenceError, InferenceUnavailableError
from sinfer.types.check import Checked, causes, connection_problem

_DENIED = {401, 402, 403, 407}
_MISSING = {404, 410}
_NO_ANSWER = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
_TIMEOUTS = (httpx.ConnectTimeout, httpx.PoolTimeout)

_GRPC_STATUS = {
    "NOT_FOUND": 404,
    "UNIMPLEMENTED": 501,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
}
_GRPC_TEXTS: dict[str, OSError] = {
    "connection refused": ConnectionRefusedError(),
    "errors resolving": socket.gaierror(0, "no such name"),
    "dns resolution": socket.gaierror(0, "no such name"),
    "certificate_verify_failed": ssl.SSLError("the certificate is not trusted"),
    "handshake": ssl.SSLError("the handshake fails"),
    "parsing http/2": ConnectionResetError(),
    "socket closed": ConnectionResetError(),
}
"""gRPC tells in words only why there is no connection."""


def checked_error(error: InferenceError, place: str, missing: str = "") -> Checked:
    """Why a model server is of no use now, with the remedy.

    Args:
        error: what asking it came to.
        place: the server, for people.
        missing: what it lacks when it answers that there is no such thing.
    """
    status = status_of(error)
    if status in _DENIED:
        text = f"{place} answers {_named(status)}: it refuses the credentials; correct them"
        return Checked("error", text, "headers")
    if status in _MISSING:
        what = missing or "there is nothing at this address; correct it"
        return Checked("error", f"{place} answers {_named(status)}: {what}", "url")
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        text = f"{place} answers {_named(status)}: it is not ready; wait, or see its log"
        return Checked("unreachable", text)
    if status is not None:
        is_passing = isinstance(error, InferenceUnavailableError)
        return Checked("unreachable" if is_passing else "error", str(error))
    found = _connection_problem(error)
    if found is None:
        is_passing = isinstance(error, InferenceUnavailableError)
        return Checked("unreachable" if is_passing else "error", str(error), is_silent=is_passing)
    return found._replace(text=f"{place} {found.text}", field="url")


def _connection_problem(error: InferenceError) -> Checked | None:
    for found in causes(error):
        if isinstance(found, _TIMEOUTS):
            return connection_problem(TimeoutError())
        details = str(_told_by_grpc(found, "details") or "").lower()
        for words, meant in _GRPC_TEXTS.items():
            if words in details:
                return connection_problem(meant)
    if (problem := connection_problem(error)) is not None:
        return problem
    if any(isinstance(found, _NO_ANSWER) for found in causes(error)):
        return connection_problem(ConnectionResetError())
    return None


def status_of(error: InferenceError) -> int | None:
    """The HTTP status, or that which means the same as what gRPC says; None without an answer."""
    if error.status is not None:
        return error.status
    code = _told_by_grpc(error.__cause__, "code")
    return _GRPC_STATUS.get(getattr(code, "name", ""))


def _told_by_grpc(error: BaseException | None, what: Literal["code", "details"]) -> Any:
    """What an error of grpc says of itself; None of others. The extra may not be installed."""
    told = getattr(error, what, None)
    return told() if callable(told) else None


def _named(status: int | None) -> str:
    try:
        return f"{status} {HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)
