"""A sink that cannot be made yet is away; once it is made it says all that it would have said."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from sinfer.errors import ConfigError, SinkUnavailableError
from sinfer.results import Confirmed, WindowResults
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.tasks.unmade_sink import make_sink
from tests.window_results import window_results


class Later(Sink):
    type = "made-later"

    problem: ClassVar[str] = "its driver is not installed"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        if self.problem:
            raise ConfigError(self.problem)

    async def write(self, results: WindowResults) -> Confirmed:
        return Confirmed(new=len(results))


async def test_a_sink_that_is_made_later_is_away_until_then_and_confirms_what_it_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sink = make_sink(SinkConfig(type=Later.type), "the sink", may_wait=True)
    with pytest.raises(SinkUnavailableError, match="its driver is not installed"):
        await sink.write(window_results(3))
    monkeypatch.setattr(Later, "problem", "")
    assert await sink.write(window_results(3)) == Confirmed(new=3)
    await sink.aclose()
