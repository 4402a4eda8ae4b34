"""The one place where what HTTP and httpx report becomes an error of sinfer.

======================================  =============================  ===========================
what happened                           error                          what the worker does
======================================  =============================  ===========================
time-out, broken answer                 InferenceUnavailableError      tries later
no connection, a proxy that gives none  the same, not_begun            tries later, burns nothing
408 409 423 425 499, other 5xx          InferenceUnavailableError      tries later
429, 503                                the same, not_begun            tries later, burns nothing
500, 424 (a gateway's "model failed")   InferenceServerError           tries once, then bisects
400 413 422, other 4xx                  InferenceRejectedError         bisects
401 402 403 404 405 406 407 410 411     InferenceMisconfiguredError    waits for someone to act
414 415 421 426 428 431 451 501 505
511, any 1xx or 3xx, no usable URL,
a certificate that cannot be trusted
a body that cannot be decoded           InvalidResponseError           counts a failed attempt
======================================  =============================  ===========================
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from http import HTTPStatus

import httpx

from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.http.retry_after import retry_after
from sinfer.logging.masking import hide, secret_parameters

FOREIGN_ERRORS = (
    httpx.HTTPError,
    httpx.InvalidURL,
    httpx.CookieConflict,
    httpx.StreamError,
    OSError,
)
"""All that httpx raises when a call does not come to an answer."""

EXCERPT_CHARS = 200

_TRACEBACK = "Traceback (most recent call last)"
_JSON_END = re.compile(r'(?:\\n)*"[\s\]}]*$')
_LINE_END = re.compile(r"\n|\\n")

FURTHER_SECRETS = "sinfer_secrets"
"""Extension of a request: what its answer must not be quoted with besides its headers."""

_OPEN_HEADERS = frozenset(
    {
        "accept", "accept-encoding", "connection", "content-length", "content-type", "host",
        "idempotency-key", "inference-header-content-length", "user-agent",
    }
)  # fmt: skip
"""Headers that hold no secret; those that a task adds may."""

_UNAVAILABLE = frozenset({408, 409, 423, 425, 429, 499})
_NOT_BEGUN = frozenset({429, 503})
_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout)
_FAILED = frozenset({424, 500})
_MISCONFIGURED = frozenset(
    {401, 402, 403, 404, 405, 406, 407, 410, 411, 414, 415, 421, 426, 428, 431, 451, 501, 505, 511}
)
PROXY_MISCONFIGURED = frozenset({401, 403, 405, 407})
"""What a proxy that is asked for a connection answers until somebody changes a setting."""

_NEVER_ANY_BETTER = (
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.TooManyRedirects,
    httpx.InvalidURL,
)


def shown_url(url: httpx.URL) -> str:
    """A URL for messages: without credentials, and without the query, which may hold secrets."""
    return str(url.copy_with(username=None, password=None, query=None, fragment=None))


def excerpt(content: bytes, secrets: Iterable[str] = ()) -> str:
    """The first 200 characters of a body, on one line, without these secrets; of a Python traceback
    the exception, which stands at its end."""
    text = content[: 4 * EXCERPT_CHARS].decode("utf-8", "replace")
    if _TRACEBACK in text:
        text = _exception_of(content.decode("utf-8", "replace")) or text
    return " ".join(hide(text, secrets).split())[:EXCERPT_CHARS] or "(empty body)"


def _exception_of(traceback: str) -> str:
    """The last line of a traceback, which may be a text within JSON."""
    if traceback.lstrip()[:1] in ("{", "["):
        traceback = _JSON_END.sub("", traceback)
    lines = _LINE_END.split(traceback)
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def sent_secrets(request: httpx.Request) -> list[str]:
    """What an answer to a request must not be quoted with: its headers, and parts of its URL."""
    headers = [value for name, value in request.headers.items() if name not in _OPEN_HEADERS]
    further = request.extensions.get(FURTHER_SECRETS, ())
    return [*headers, *secret_parameters(str(request.url)), *further]


def _excerpt_of(response: httpx.Response) -> str:
    return excerpt(response.content, sent_secrets(response.request))


def error_of_status(response: httpx.Response, call: str) -> InferenceError:
    """The error that a status other than 2xx stands for.

    Args:
        response: read to its end.
        call: method and URL, as they may be shown.
    """
    status = response.status_code
    text = f"{call}: {_named(status)}: {_excerpt_of(response)}"
    if status in _FAILED:
        return InferenceServerError(text, status=status)
    if status in _MISCONFIGURED or status < 400:
        return InferenceMisconfiguredError(text, status=status)
    if status in _UNAVAILABLE or status >= 500:
        wait_s = retry_after(response.headers.get("retry-after"))
        return InferenceUnavailableError(
            text, status=status, retry_after=wait_s, not_begun=status in _NOT_BEGUN
        )
    return InferenceRejectedError(text, status=status)


def error_of_exception(error: Exception, call: str) -> InferenceError:
    """The error that one of ``FOREIGN_ERRORS`` stands for.

    Args:
        error: what httpx raised.
        call: method and URL, as they may be shown.
    """
    if isinstance(error, httpx.LocalProtocolError):  # its text may quote a header, secrets included
        return InferenceMisconfiguredError(f"{call}: the request is no valid HTTP; check headers")
    if isinstance(error, httpx.ProxyError):
        return _error_of_proxy(error, call)
    text = f"{call}: {type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, _NEVER_ANY_BETTER) or _is_distrust(error):
        return InferenceMisconfiguredError(text)
    if isinstance(error, httpx.DecodingError):
        return InvalidResponseError(text)
    return InferenceUnavailableError(text, not_begun=isinstance(error, _NO_CONNECTION))


def _error_of_proxy(error: httpx.ProxyError, call: str) -> InferenceError:
    """The error for a proxy that lets nothing through: the model has not seen the request."""
    code, _, _ = str(error).partition(" ")
    if code.isdigit():
        status = int(code)
        text = f"{call}: the proxy refuses: {_named(status)}"
        if status in PROXY_MISCONFIGURED:
            return InferenceMisconfiguredError(text, status=status)
        return InferenceUnavailableError(text, status=status, not_begun=True)
    return InferenceUnavailableError(f"{call}: the proxy refuses: {error}", not_begun=True)


def invalid_response(response: httpx.Response, call: str, reason: str) -> InvalidResponseError:
    """The error for an answer of status 2xx that cannot be understood."""
    status = response.status_code
    return InvalidResponseError(
        f"{call}: {_named(status)}: {reason}: {_excerpt_of(response)}", status=status
    )


def _named(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _is_distrust(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
