"""What lasts is told in the log and by `sinfer status`, in one text; nothing can be forgotten."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import sinfer.ingest
import sinfer.source
from sinfer.logging import throttled, troubles
from sinfer.logging.troubles import FADES_S, Troubles

OVER_WHEN_TOLD = {
    "isolation._prepare": "a dead letter",
    "caution.__init__": "what the last writer left; status counts its deaths",
    "handover.change_over": "how a partition begins",
    "dead_letter_retention._copy": "a copy with another id",
    "dead_letter_retention._too_large": "a copy that is not sent",
    "dead_letter_retention.keep_caps": "dead letters that were removed",
    "durable._begin": "how a partition begins",
    "durable._filled": "messages that are gone; status has them from the store",
    "durable._take_over": "how a partition begins",
    "durable.attach": "how a partition begins",
    "leases._renew": "the partition begins anew",
    "watchdog._end": "the process ends",
    "watchdog._live": "an error that is over",
    "pipelines._try_out": "how a partition begins",
    "backfill.fetch": "messages that come later",
    "partition._give_back": "the partition was left",
    "retirement._give_back": "the partition was left",
    "service.run": "the process ends",
    "commit._follow": "windows that status has as set aside",
    "windower._give_up": "a dead letter",
}
"""Log lines about what is over when it is told."""

TOLD_OTHERWISE = {
    "memory_budgets._take": "a board of its own, which outlives ingestors",
    "backpressure.refresh": "status asks Redis itself, and partitions tell that they stop",
    "stall._tell": "a field of the partition",
}
"""Log lines about what lasts, which `sinfer status` has in another way."""

LOUD = {"warning", "error", "critical", "exception", "log"}


def loud_lines() -> Iterator[str]:
    """The functions of the ingestor that log above INFO by themselves."""
    folders = (Path(str(room.__file__)).parent for room in (sinfer.ingest, sinfer.source))
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call):
                    log, _, level = ast.unparse(call.func).partition(".")
                    if log == "_log" and level in LOUD:
                        yield f"{path.stem}.{function.name}"


def test_what_lasts_is_told_where_status_finds_it() -> None:
    known = OVER_WHEN_TOLD.keys() | TOLD_OTHERWISE.keys()
    assert set(loud_lines()) == known, "use Troubles.tell for what lasts; name here what does not"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (troubles, throttled):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_it_is_logged_when_it_begins_or_changes_and_each_minute(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = Troubles().of("p/t/>")
    for text in ("away", "away", "gone"):
        troubles.tell("reading", text)
    clock.now_s = 61.0
    troubles.tell("reading", "gone")
    assert caplog.messages == ["p/t/>: away", "p/t/>: gone", "p/t/>: gone"]


def test_a_text_that_counts_is_logged_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles()
    for count in range(8, 12):
        troubles.tell("p/t/>", "cap", f"{count} of 10", once=True)
    assert caplog.messages == ["p/t/>: 8 of 10"]
    assert troubles.all() == {"p/t/>": ["11 of 10"]}


def test_it_is_shown_until_it_is_over(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    troubles = Troubles()
    troubles.tell("p/t/a", "reading", "cannot read")
    troubles.tell("p/t/a", "storing", "cannot store")
    troubles.tell("", "nats", "is away", level=None)
    assert troubles.all() == {"p/t/a": ["cannot read", "cannot store"], "": ["is away"]}
    troubles.over("p/t/a", "reading", "reads again")
    troubles.over("p/t/a", "reading", "reads again")
    troubles.over("", "nats")
    assert troubles.all() == {"p/t/a": ["cannot store"]}
    troubles.clear("p/t/a")
    assert troubles.all() == {}
    assert caplog.messages[2:] == ["p/t/a: reads again"]


def test_what_nobody_sees_the_end_of_fades(clock: Clock) -> None:
    troubles = Troubles()
    troubles.tell("", "forbidden", "may not", fades=True)
    troubles.tell("", "lasting", "is away")
    clock.now_s = FADES_S - 1
    assert troubles.all() == {"": ["may not", "is away"]}
    clock.now_s = FADES_S
    assert troubles.all() == {"": ["is away"]}
