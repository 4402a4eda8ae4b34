"""Every status and every exception of httpx becomes one error of sinfer, and tells no secret."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from sinfer.encoding import to_json
from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.inference.http_errors import (
    FOREIGN_ERRORS,
    error_of_exception,
    error_of_status,
    excerpt,
    shown_url,
)

CALL = "POST http://model/v2"


def answer(status: int, body: bytes = b"", **headers: str) -> httpx.Response:
    return httpx.Response(
        status,
        content=body,
        headers={k.replace("_", "-"): v for k, v in headers.items()},
        request=httpx.Request("POST", "http://model.test"),
    )


@pytest.mark.parametrize(
    ("statuses", "kind"),
    [
        ([408, 409, 423, 425, 429, 499, 502, 503, 504, 507, 520, 529], InferenceUnavailableError),
        ([500, 424], InferenceServerError),
        ([400, 413, 422, 418, 460], InferenceRejectedError),
        ([401, 402, 403, 404, 405, 407, 410, 415, 501, 505], InferenceMisconfiguredError),
        ([300, 301, 302, 304, 307, 308], InferenceMisconfiguredError),
    ],
)
def test_a_status_decides_what_happens_next(
    statuses: list[int], kind: type[InferenceError]
) -> None:
    for status in statuses:
        error = error_of_status(answer(status, b"why"), CALL)
        assert type(error) is kind, status
        assert error.status == status
        assert str(error).startswith(f"{CALL}: {status}")
        assert str(error).endswith(": why")


def test_every_status_but_2xx_has_an_error() -> None:
    for status in [*range(100, 200), *range(300, 600)]:
        assert isinstance(error_of_status(answer(status), CALL), InferenceError)


def httpx_exceptions() -> list[type[Exception]]:
    found = [getattr(httpx, name) for name in httpx.__all__]
    return [x for x in found if isinstance(x, type) and issubclass(x, Exception)]


@pytest.mark.parametrize("kind", httpx_exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_that_httpx_has_is_mapped(kind: type[Exception]) -> None:
    assert issubclass(kind, FOREIGN_ERRORS)
    error = kind.__new__(kind)
    Exception.__init__(error, "why")
    assert isinstance(error_of_exception(error, CALL), InferenceError)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (httpx.ConnectError("refused"), InferenceUnavailableError),
        (httpx.ConnectTimeout("late"), InferenceUnavailableError),
        (httpx.ReadTimeout("late"), InferenceUnavailableError),
        (httpx.PoolTimeout("late"), InferenceUnavailableError),
        (httpx.ReadError("reset"), InferenceUnavailableError),
        (httpx.WriteError("reset"), InferenceUnavailableError),
        (httpx.RemoteProtocolError("half"), InferenceUnavailableError),
        (httpx.ProxyError("proxy"), InferenceUnavailableError),
        (ConnectionResetError("reset"), InferenceUnavailableError),
        (httpx.LocalProtocolError("header"), InferenceMisconfiguredError),
        (httpx.UnsupportedProtocol("ftp"), InferenceMisconfiguredError),
        (httpx.InvalidURL("url"), InferenceMisconfiguredError),
        (httpx.DecodingError("gzip"), InvalidResponseError),
    ],
)
def test_an_exception_decides_what_happens_next(
    error: Exception, kind: type[InferenceError]
) -> None:
    assert type(error_of_exception(error, CALL)) is kind


def test_an_illegal_header_is_not_quoted_in_the_error() -> None:
    error = error_of_exception(httpx.LocalProtocolError("Illegal header value b'hunter2'"), CALL)
    assert "hunter2" not in str(error)


def test_it_is_known_when_no_model_ever_saw_the_request() -> None:
    seen = [error_of_status(answer(status), CALL) for status in (408, 502, 504)]
    seen += [error_of_exception(httpx.ReadTimeout("late"), CALL)]
    unseen = [error_of_status(answer(status), CALL) for status in (429, 503)]
    unseen += [error_of_exception(httpx.ConnectError("refused"), CALL)]
    unseen += [error_of_exception(httpx.ConnectTimeout("late"), CALL)]
    for error in (*seen, *unseen):
        assert isinstance(error, InferenceUnavailableError)
        assert error.not_begun == (error in unseen)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_reaches_the_error(status: int) -> None:
    error = error_of_status(answer(status, Retry_After="7"), CALL)
    assert isinstance(error, InferenceUnavailableError)
    assert error.retry_after == 7.0


def test_a_shown_url_has_no_credentials_and_no_query() -> None:
    url = httpx.URL("https://user:hunter2@model.test:8443/v2?key=hunter2#hunter2")
    assert shown_url(url) == "https://model.test:8443/v2"


def test_an_excerpt_is_short_and_on_one_line_whatever_the_body() -> None:
    assert excerpt(b"") == "(empty body)"
    assert excerpt(b"<h1>\n\n  Bad</h1>\n") == "<h1> Bad</h1>"
    assert len(excerpt(b"\xff" * 10_000)) == 200


@pytest.mark.parametrize(
    "wrapped",
    [lambda text: text.encode(), lambda text: to_json({"detail": [{"error": text}]})],
    ids=["plain", "json"],
)
@pytest.mark.parametrize("error", ["RuntimeError: row 17 is bad", "KeyError: 'y'"])
def test_of_a_traceback_the_exception_is_quoted(
    wrapped: Callable[[str], bytes], error: str
) -> None:
    frames = '  File "/srv/model.py", line 3, in predict\n    return self.model(x)\n' * 100
    text = f"Traceback (most recent call last):\n{frames}{error}\n"
    assert excerpt(wrapped(text)) == error
