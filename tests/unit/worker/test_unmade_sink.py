"""A sink that cannot be made yet is unavailable; once made it says all that it would have said."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer.errors import ConfigError, SinkUnavailableError
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.types.result import Confirmed, WindowResults
from sinfer.worker.unmade_sink import make_sink
from tests.support.window_results import window_results


class Later(Sink):
    async def write(self, results: WindowResults) -> Confirmed:
        return Confirmed(new=len(results))


async def test_a_sink_that_is_made_later_is_away_until_then_and_confirms_what_it_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problems = ["its driver is not installed"] * 2

    def make(config: Any, what: str) -> Sink:
        if problems:
            raise ConfigError(problems.pop())
        return Later(config)

    monkeypatch.setattr(Sink, "make", make)
    sink = make_sink(SinkConfig(type="log"), "the sink", may_wait=True)
    with pytest.raises(SinkUnavailableError, match="its driver is not installed"):
        await sink.write(window_results(3))
    assert await sink.write(window_results(3)) == Confirmed(new=3)
    await sink.aclose()
