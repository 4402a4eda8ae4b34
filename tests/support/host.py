"""A worker process without Celery: whom it told of windows can be looked up."""

from __future__ import annotations

from collections import Counter

from sinfer.store.work.claim import Claim
from sinfer.windows.ids import Scope


class NotedHints:
    """Takes note of hints.

    Attributes:
        sent: windows that hints told of, by partition.
        messages: how many hints there were.
    """

    def __init__(self) -> None:
        self.problem = ""
        self.sent: Counter[Scope] = Counter()
        self.messages = 0

    def send(self, scope: Scope, windows: int, *, always: bool = False) -> None:
        if windows or always:
            self.messages += 1
        if windows:
            self.sent[scope] += windows


class LoneHost:
    """The only process there is; see ``sinfer.worker.host.Host``."""

    def __init__(self) -> None:
        self.hints = NotedHints()

    def serves(self, product: str) -> bool:
        return True

    def is_told_to_end(self) -> bool:
        return False

    def note_load(self, windows: int) -> None:
        pass

    def began(self, scope: Scope, claim: Claim, messages: int) -> None:
        return None

    def close(self) -> None:
        pass
