"""Only sinks of sinfer's own are awaited as such."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinfer.sinks import HttpSink, JsonlSink, LogSink, Sink
from sinfer.types.result import WindowResults
from sinfer.worker.own_sinks import writes_as_ours


class Loud(LogSink):
    """A product's."""


class Quiet(Sink):
    """A product's as well."""

    async def write(self, results: WindowResults) -> None:
        """Write nothing."""


def test_sinks_of_sinfer_are_ours(tmp_path: Path) -> None:
    jsonl = JsonlSink(JsonlSink.Config(type="jsonl", path=str(tmp_path / "out.jsonl")))
    for sink in (LogSink(LogSink.Config(type="log")), jsonl):
        assert writes_as_ours(sink)
    assert not writes_as_ours(Loud(LogSink.Config(type="log")))
    assert not writes_as_ours(Quiet(LogSink.Config(type="log")))


def test_a_sink_that_a_product_has_changed_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = LogSink(LogSink.Config(type="log"))
    monkeypatch.setattr(sink, "write", Quiet.write)
    assert not writes_as_ours(sink)
    other = HttpSink(HttpSink.Config(type="http", url="http://127.0.0.1:1"))
    assert writes_as_ours(other)
    monkeypatch.setattr(HttpSink, "write", Quiet.write)
    assert not writes_as_ours(other)
