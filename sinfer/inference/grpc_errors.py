"""The one place where what gRPC reports becomes an error of sinfer, as ``http_errors`` does it.

======================================  =============================  ===========================
status                                  error                          what the worker does
======================================  =============================  ===========================
DEADLINE_EXCEEDED, ABORTED, CANCELLED,  InferenceUnavailableError      tries later
UNAVAILABLE in the midst of a call
UNAVAILABLE without a connection,       the same, not_begun            tries later, burns nothing
RESOURCE_EXHAUSTED
INTERNAL, UNKNOWN, DATA_LOSS            InferenceServerError           tries once, then bisects
INVALID_ARGUMENT, OUT_OF_RANGE,         InferenceRejectedError         bisects
FAILED_PRECONDITION, ALREADY_EXISTS,
a request larger than the server takes
an answer larger than is read           InvalidResponseError           counts a failed attempt
NOT_FOUND, UNIMPLEMENTED,               InferenceMisconfiguredError    waits for someone to act
UNAUTHENTICATED, PERMISSION_DENIED,
a certificate that cannot be trusted
======================================  =============================  ===========================

The meaning of the codes: https://grpc.io/docs/guides/status-codes/.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http.client import TOO_MANY_REQUESTS

import grpc

from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.inference.http_errors import PROXY_MISCONFIGURED, excerpt

_FAILED = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
_REJECTED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ALREADY_EXISTS,
}
_MISCONFIGURED = {
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
}
_PROXY_REFUSAL = re.compile(r"HTTP proxy returned response code (\d+)")
_DISTRUST = re.compile(r"CERTIFICATE_VERIFY_FAILED[^;\n]*|Hostname Verification Check failed")
_NO_CONNECTION = (
    "failed to connect",
    "connections to all backends failing",
    "dns resolution",
    "errors resolving",
)
"""How UNAVAILABLE reads when nothing was sent; the code alone does not tell."""


def error_of_status(
    error: grpc.aio.AioRpcError, call: str, secrets: Iterable[str]
) -> InferenceError:
    """The error that a status other than OK stands for.

    Args:
        error: what the call raised.
        call: method and server, as they may be shown.
        secrets: what the text must not be quoted with.
    """
    code, details = error.code(), error.details() or ""
    text = f"{call}: {code.name}: {excerpt(details.encode(), secrets)}"
    if (refusal := _PROXY_REFUSAL.search(details)) is not None:
        status = int(refusal[1])
        if status in PROXY_MISCONFIGURED:
            return InferenceMisconfiguredError(text, status=status)
        return InferenceUnavailableError(text, status=status, not_begun=True)
    if (distrust := _DISTRUST.search(details)) is not None:
        return InferenceMisconfiguredError(
            f"{call}: the server's certificate cannot be trusted ({distrust[0]});"
            " see inference.ca_file"
        )
    if code in _FAILED:
        return InferenceServerError(text)
    if code in _MISCONFIGURED:
        return InferenceMisconfiguredError(text)
    if code in _REJECTED:
        return InferenceRejectedError(text)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # The same code for a message that is too large, on either side, and for too many calls.
        if "larger than max" in details:
            if "CLIENT:" in details:
                return InvalidResponseError(f"{text}; see inference.max_response_bytes")
            return InferenceRejectedError(text)
        return InferenceUnavailableError(text, status=TOO_MANY_REQUESTS, not_begun=True)
    is_unavailable = code is grpc.StatusCode.UNAVAILABLE
    not_begun = is_unavailable and any(part in details.lower() for part in _NO_CONNECTION)
    return InferenceUnavailableError(text, not_begun=not_begun)
