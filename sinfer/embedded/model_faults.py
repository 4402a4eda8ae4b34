"""Faults that tests and chaos runs order from the model server over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec


class Fault(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What happens to the next requests instead of an answer.

    Attributes:
        mode: ``"status"`` answers with ``status``; ``"status_and_close"`` does so and closes the
            connection without saying so, as uvicorn does after an error of the model; ``"hang"``
            never answers; ``"close_midway"`` closes the connection in the middle of the right
            answer; ``"garbage"`` answers 200 with a body that is no JSON; ``"wrong_count"`` leaves
            out the last result; ``"ok"`` answers as usual, for a delay. By default ``"status"``
            where a status is given, else ``"ok"``.
        status: the HTTP status.
        retry_after: the ``Retry-After`` header: seconds, or a text as it stands.
        delay_ms: wait so long before it happens, milliseconds.
        count: how many requests it hits; None for all until the faults are replaced.
        value: hit only requests in which some feature equals this value.
    """

    mode: Literal[
        "", "status", "status_and_close", "hang", "close_midway", "garbage", "wrong_count", "ok"
    ] = ""  # fmt: skip
    status: int = 0
    retry_after: int | float | str | None = None
    delay_ms: float = 0
    count: int | None = 1
    value: float | None = None

    def __post_init__(self) -> None:
        if not self.mode:
            self.mode = "status" if self.status else "ok"
        if self.mode.startswith("status") and not 200 <= self.status <= 599:
            raise ValueError("status is from 200 to 599")
        if self.delay_ms < 0:
            raise ValueError("delay_ms is not negative")


class FaultQueue:
    """Faults in the order in which they happen."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def replace(self, faults: list[Fault]) -> None:
        """Forget what was ordered before; an empty list heals the server."""
        self._faults = [fault for fault in faults if fault.count is None or fault.count > 0]

    def next_for(self, rows: Sequence[Sequence[float]]) -> Fault | None:
        """The fault that hits a request with these rows, which is used up by it."""
        for fault in self._faults:
            if fault.value is None or any(fault.value in row for row in rows):
                if fault.count is not None:
                    fault.count -= 1
                    if fault.count == 0:
                        self._faults.remove(fault)
                return fault
        return None
