"""Every exception that sinfer raises on purpose.

SinferError
├── ConfigError              a setting, task or product is wrong; the text names field and remedy
│   └── ProductNotFoundError
├── UnavailableError         NATS, Redis or the broker cannot be reached (retry later)
│   └── AccessError          it answers, but does not let sinfer in, or cannot be trusted
├── StoreError               the window store refused a step
│   ├── StaleTokenError      another writer or worker holds the lease
│   ├── PositionError        the batch does not follow the stored position
│   ├── LostPositionError    windows are there, and the stored position is gone
│   ├── WindowConflictError  a window of the plan was closed meanwhile: plan again
│   ├── FormatError          a newer version of sinfer wrote it: upgrade
│   ├── CommitRefusedError   this commit can never be stored, though the store is there
│   └── StoreFullError       Redis is at maxmemory
├── SourceError              the stream cannot be read as configured
│   └── StreamResetError     the stream was deleted, made again or rolled back
├── HookError                code of a product failed, or ended in a way that code should not
├── SharedWindowError        a pipeline asks several windows in one call for what only one has
├── InvalidItemError         a message, or what a product made of it, is not valid
├── InferenceError           the model did not answer as asked
│   ├── InferenceUnavailableError    try later (connect errors, time-outs, 408, 429, 502, 503, 504)
│   ├── InferenceServerError         500: try once more, then look for the culprit
│   ├── InferenceRejectedError       400, 413, 422: the request holds a bad element
│   ├── InferenceMisconfiguredError  401, 403, 404, 501: no request of this task can succeed
│   └── InvalidResponseError         the answer cannot be understood, or has the wrong size
└── SinkError                a sink did not take the results
    ├── SinkUnavailableError         try later
    └── SinkRejectedError            will never be taken
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sinfer.types.result import Confirmed


class SinferError(Exception):
    """Base of all errors that sinfer raises on purpose."""


class ConfigError(SinferError):
    """A setting, task or product is wrong. The message names the field and the remedy."""


class ProductNotFoundError(ConfigError):
    """No product of that name is installed; the message lists the known ones."""


class UnavailableError(SinferError):
    """A server that sinfer needs cannot be reached at the moment."""


class AccessError(UnavailableError):
    """A server refuses the credentials or a permission, or TLS with it fails. The text says which
    setting to correct. Trying again helps only once somebody did."""


class StoreError(SinferError):
    """The window store refused a step."""


class StaleTokenError(StoreError):
    """The fencing token is older than the stored one: someone else holds the lease."""


class PositionError(StoreError):
    """The batch does not follow the stored position without a gap."""


class LostPositionError(StoreError):
    """A partition has windows, and nothing says any more how far it was read."""


class WindowConflictError(StoreError):
    """A window of the plan is not open any more; plan the batch again.

    Attributes:
        now_ms: the store's clock, milliseconds since the epoch.
        window_ids: the windows that closed; none when only a window's time has passed.
    """

    def __init__(self, message: str, now_ms: int = 0, window_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.now_ms = now_ms
        self.window_ids = window_ids


class CommitRefusedError(StoreError):
    """A commit cannot be stored, and trying it again would not help; nothing of it is stored.

    Attributes:
        by_store: whether the store refused it; else it could not even be encoded.
    """

    def __init__(self, message: str, *, by_store: bool) -> None:
        super().__init__(message)
        self.by_store = by_store


class StoreFullError(StoreError):
    """Redis refuses writes because it is at ``maxmemory``."""


class FormatError(StoreError):
    """A partition was written by a newer version of sinfer, which this one must not touch."""


class SourceError(SinferError):
    """The stream cannot be read as the task asks for."""


class StreamResetError(SourceError):
    """The stream was deleted, made again or rolled back below the stored position."""


class HookError(SinferError):
    """Code of a product raised something; see ``sinfer.hooks.call``.

    Attributes:
        stage: where in the work it was called.
        hook: the name of the function.
        text: what it raised, in one line of bounded length.
    """

    def __init__(self, stage: str, hook: str, text: str) -> None:
        super().__init__(f"{hook}: {text}")
        self.stage = stage
        self.hook = hook
        self.text = text


class SharedWindowError(SinferError):
    """What only a single window has was asked of several that share a call.

    Args:
        name: what was asked for, such as ``key``.
    """

    def __init__(self, name: str) -> None:
        super().__init__(
            f"window.{name}: these are items of several windows in one call"
            f" (inference.share_calls), which have no {name} in common; take it from the items or"
            " window.messages, or leave share_calls out"
        )


class InvalidItemError(SinferError):
    """A message, or what a product made of it, is not valid.

    Attributes:
        stream_seq: of the message, where it is one of many; else 0.
    """

    def __init__(self, message: str, *, stream_seq: int = 0) -> None:
        super().__init__(message)
        self.stream_seq = stream_seq


class InferenceError(SinferError):
    """The model did not answer as asked.

    Attributes:
        status: the HTTP status, where there was one.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class InferenceUnavailableError(InferenceError):
    """The model cannot answer now; the same request may succeed later.

    Attributes:
        retry_after: seconds that the server asked to wait, if it did.
        not_begun: whether the model never saw to the request (no connection, 429, 503), so that
            nothing in the request can be the cause.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        not_begun: bool = False,
    ) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after
        self.not_begun = not_begun


class InferenceServerError(InferenceError):
    """The model failed on the request (HTTP 500): retry once, then look for the culprit."""


class InferenceRejectedError(InferenceError):
    """The model refuses the request (400, 413, 422): some element of it is bad."""


class InferenceMisconfiguredError(InferenceError):
    """No request of this task can succeed until someone changes the configuration."""


class InvalidResponseError(InferenceError):
    """The answer cannot be understood or has the wrong number of results."""


class SinkError(SinferError):
    """A sink did not take the results."""


class SinkUnavailableError(SinkError):
    """The sink cannot take results now; the same write may succeed later.

    Attributes:
        retry_after: seconds that the sink asked to be left alone, if it did.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkRejectedError(SinkError):
    """The sink will never take these results.

    Args:
        message: why.
        ordinals: of the rows that are refused, when the sink has stored all others of the write;
            by default, and when there are none, all rows are refused.
        confirmed: what is known of the write, as ``Sink.write`` returns it.

    Attributes:
        ordinals: of the rows that are refused; None for all of them.
        confirmed: see above.
    """

    ordinals: frozenset[int] | None = None

    def __init__(
        self,
        message: str,
        *,
        ordinals: Iterable[int] | None = None,
        confirmed: Confirmed | None = None,
    ) -> None:
        super().__init__(message)
        self.confirmed = confirmed
        self.ordinals = frozenset(map(int, ordinals or ())) or None
