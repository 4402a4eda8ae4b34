"""What every sink has in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

from sinfer.config.model import ConfigModel
from sinfer.config.plugins import Plugin
from sinfer.types.check import Checked
from sinfer.types.result import Confirmed, WindowResults


class SinkConfig(ConfigModel):
    """One entry of the ``sinks:`` part of a task."""

    type: str
    name: str = ""
    """How the sink is called in logs, in the account and in the keys of its results; its type and
    place by default."""

    def replaces_in(self) -> Hashable:
        """Where the sink replaces what is stored under the same window and ordinal, as a table.

        Two sinks of one task in one such place would overwrite each other's results, so that the
        task is refused. None, as by default, where sinks of one task keep out of each other's way:
        they know results by ``WindowResults.idempotency_key``, which names the sink.
        """
        return None


class Sink(Plugin[SinkConfig]):
    """Writes results. The same window may be written again: writes must be idempotent.

    One sink serves all windows of a task in a process, concurrently, on one event loop. It is
    made and closed on that loop.
    """

    kind: ClassVar[str] = "sink"
    Config: ClassVar[type[ConfigModel]] = SinkConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    async def write(self, results: WindowResults) -> Confirmed | None:
        """Write all results of a window; when this returns they are stored.

        Returns:
            How many of them are new and how many were there already, for the account; None where
            the sink cannot tell.

        Raises:
            SinkUnavailableError: not now; the window is written again later.
            SinkRejectedError: never.
        """

    async def stored(self, windows: Sequence[WindowResults]) -> list[dict[int, int]] | None:
        """Tell which results of windows are stored; `sinfer audit --deep` asks.

        A sink that can look up what it wrote may implement this. What it finds under a window's
        name beyond the results that it is asked about belongs into the answer as well.

        Args:
            windows: the results as they were written, without their data.

        Returns:
            For each window how many copies there are of its results, by ordinal. None, as by
            default, where the sink cannot tell.

        Raises:
            SinkUnavailableError: not now.
        """
        return None

    async def check(self) -> list[Checked]:
        """Tell whether results could be written, without writing any; `sinfer check` wants to know.

        A sink that can ask its server may implement this. It changes nothing there. It is asked
        with a ``timeout`` of a few seconds, once for all tasks with the same settings.

        Returns:
            What was found; nothing, as by default, where there is nobody to ask.
        """
        return []

    @property
    def server(self) -> str:
        """Whom it asks, for people and without secrets; empty where there is nobody."""
        return ""

    async def aclose(self) -> None:
        """Write what is held and close connections."""
