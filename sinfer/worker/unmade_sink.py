"""A sink that cannot be made: what it lacks waits, with the reason in `sinfer status`."""

from __future__ import annotations

from sinfer.errors import ConfigError, SinkUnavailableError
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.types.result import Confirmed, WindowResults


class UnmadeSink(Sink):
    """Stands for a sink until that can be made, which each write tries again.

    Args:
        config: of the sink.
        what: how errors call it.
    """

    def __init__(self, config: SinkConfig, what: str) -> None:
        super().__init__(config)
        self._what = what
        self._sink: Sink | None = None

    async def write(self, results: WindowResults) -> Confirmed | None:
        if self._sink is None:
            try:
                self._sink = Sink.make(self.config, self._what)
            except ConfigError as error:
                raise SinkUnavailableError(str(error)) from error
        return await self._sink.write(results)

    async def aclose(self) -> None:
        if self._sink is not None:
            await self._sink.aclose()


def make_sink(config: SinkConfig, what: str, *, may_wait: bool) -> Sink:
    """The sink of a configuration.

    Args:
        config: its settings.
        what: how errors call it.
        may_wait: whether one that cannot be made may be made later.

    Raises:
        ConfigError: it cannot be made, and may not wait.
    """
    try:
        sink: Sink = Sink.make(config, what)
    except ConfigError:
        if not may_wait:
            raise
        return UnmadeSink(config, what)
    return sink
