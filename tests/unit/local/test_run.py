"""What `sinfer run` does with messages: the hooks on the main thread, time as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from sinfer import (
    ConfigError,
    InferPipeline,
    InferTaskConfig,
    Message,
    Product,
    Result,
    Sink,
    SinkConfig,
    Window,
    WindowResults,
)
from sinfer.clock import ManualClock, SystemClock
from sinfer.errors import InferenceRejectedError, InferenceUnavailableError, SinkUnavailableError
from sinfer.inference.base import InferenceClient, InferenceConfig
from sinfer.local.display import as_dict, as_text
from sinfer.local.display import lines_of as shown_lines
from sinfer.local.lines import line_of, lines_of, message_of, messages_in
from sinfer.local.run import from_file, run_and_close
from sinfer.local.task import LocalRun, LocalTask
from sinfer.local.trace import ProcessedWindow
from sinfer.products.managers import StaticTaskManager

THREADS: set[str] = set()


def seen() -> None:
    THREADS.add(threading.current_thread().name)


def model(request: list[int]) -> list[int]:
    seen()
    return [2 * n for n in request]


class Numbers(InferPipeline[InferTaskConfig, dict[str, Any]]):
    def preprocess(self, message: Message) -> dict[str, Any]:
        seen()
        item: dict[str, Any] = json.loads(message.data)
        return item

    def event_time(self, item: dict[str, Any]) -> float | None:
        return item.get("time")

    def build_request(self, window: Window[dict[str, Any]]) -> list[int]:
        seen()
        return [item["n"] for item in window]

    def build_results(self, window: Window[dict[str, Any]], response: Any) -> list[Result]:
        seen()
        return [Result({"n": n}) for n in response]


def local_task(
    *,
    virtual: bool = True,
    most_windows: int | None = None,
    on_window: Callable[[ProcessedWindow], None] | None = None,
    sinks: Mapping[str, Sink] | None = None,
    client: InferenceClient | None = None,
    most_tries: int | None = None,
    limits: Mapping[str, Any] | None = None,
    inference: Mapping[str, Any] | None = None,
    **window: Any,
) -> LocalTask:
    settings = {
        "id": "t",
        "source": {"stream": "S"},
        "window": window,
        "inference": {"type": "python", "call": f"{__name__}:model", **(inference or {})},
        "sinks": [{"type": "log"}],
        "limits": dict(limits or {}),
    }
    product = Product("p", tasks=StaticTaskManager([]), pipeline=Numbers)
    return LocalTask(
        product,
        InferTaskConfig.model_validate(settings),
        clock=ManualClock() if virtual else SystemClock(),
        on_window=on_window,
        sinks=sinks or {},
        client=client,
        how=LocalRun(most_windows, most_tries),
    )


def lines(items: Iterable[dict[str, Any]]) -> list[bytes]:
    return [json.dumps(item).encode() for item in items]


async def run(task: LocalTask, items: Iterable[dict[str, Any]]) -> Any:
    batches = from_file(messages_in(lines(items), "data", "test"), 100)
    await run_and_close(task, batches)
    return [[item["n"] for item in found.window or ()] for found in task.windows]


def at(*times: float) -> list[dict[str, Any]]:
    return [{"n": n, "time": time} for n, time in enumerate(times)]


async def test_every_hook_runs_on_the_main_thread_so_that_breakpoints_work() -> None:
    THREADS.clear()
    await run(local_task(type="count", count=2), at(1, 2, 3))
    assert {threading.main_thread().name} == THREADS


async def test_virtual_time_follows_the_messages_for_windows_of_any_kind_of_time() -> None:
    times = at(1000, 1004, 1006, 1061)
    for time in ("processing", "event"):
        task = local_task(type="tumbling", size="5s", time=time)
        assert await run(task, times) == [[0, 1], [2], [3]]
    assert await run(local_task(type="session", gap="10s"), times) == [[0, 1, 2], [3]]
    sliding = local_task(type="sliding", size="10s", slide="5s")
    assert await run(sliding, at(1001, 1006)) == [[0], [0, 1], [1]]


async def test_idle_sources_close_windows_in_virtual_time_too() -> None:
    task = local_task(type="tumbling", size="1h", time="event", idle="30s")
    await run(task, at(7200, 7201))
    [found] = task.windows
    assert found.window is not None
    assert found.window.close_reason == "idle"
    assert task.clock.now_ms() == 7_231_000


async def test_without_virtual_time_the_end_closes_what_is_open() -> None:
    task = local_task(virtual=False, type="tumbling", size="1h")
    assert await run(task, at(1, 2)) == [[0, 1]]
    assert task.windows[0].window is not None
    assert task.windows[0].window.close_reason == "drain"


@pytest.mark.parametrize("virtual", [True, False])
async def test_it_stops_after_so_many_windows(virtual: bool) -> None:
    task = local_task(virtual=virtual, most_windows=2, type="count", count=1)
    assert await run(task, at(*range(50))) == [[0], [1]]


class Flaky(Sink):
    """Refuses the first write."""

    def __init__(self) -> None:
        super().__init__(SinkConfig(type="flaky"))
        self.writes = 0

    async def write(self, results: WindowResults) -> None:
        self.writes += 1
        if self.writes == 1:
            raise SinkUnavailableError("the disk is full")


async def test_another_try_shows_only_what_is_new_and_says_which_sink_failed() -> None:
    shown: list[str] = []
    task = local_task(
        on_window=lambda found: shown.append("\n".join(shown_lines(found, full=False))),
        sinks={"disk": Flaky()},
        type="count",
        count=2,
    )
    await run(task, at(1, 2))
    first, second = shown
    assert "request   [0,1]" in first
    assert "does not count as an attempt: sink disk: SinkUnavailableError: the disk is" in first
    assert "attempt 1 (tried 2 times)" in second
    assert "   message " not in second
    assert "   request " not in second
    assert task.undone == 0


class Away(Sink):
    """Is unavailable."""

    def __init__(self) -> None:
        super().__init__(SinkConfig(type="away"))

    async def write(self, results: WindowResults) -> None:
        raise SinkUnavailableError("no disk")


class Broken(InferenceClient):
    """Fails in one way, but for item 0 alone."""

    def __init__(self, error: Exception) -> None:
        super().__init__(InferenceConfig(type="broken"))
        self._error = error

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        if request == [0]:
            return [0]
        raise self._error


async def test_what_waits_for_a_sink_is_not_given_up_and_the_run_ends() -> None:
    task = local_task(sinks={"away": Away()}, type="count", count=2, most_tries=4)
    await run(task, at(1, 2))
    [window] = task.windows
    assert (window.attempts, window.tries, window.dead) == (1, 4, [])
    assert task.undone == 1


@pytest.mark.parametrize(
    ("error", "attempts", "is_given_up"),
    [
        (InferenceUnavailableError("no connection", not_begun=True), 1, False),
        (InferenceUnavailableError("busy", status=429, retry_after=0.0), 1, False),
        (InferenceUnavailableError("time-out"), 3, True),
    ],
)
async def test_attempts_count_as_in_production(
    error: Exception, attempts: int, is_given_up: bool
) -> None:
    task = local_task(
        client=Broken(error), type="count", count=2, most_tries=6, limits={"max_attempts": 3}
    )
    await run(task, at(1, 2))
    [window] = task.windows
    assert window.attempts == attempts
    assert bool(task.dead) is is_given_up


async def test_a_model_that_times_out_again_and_again_is_unavailable_and_gives_nothing_up() -> None:
    task = local_task(
        client=Broken(InferenceUnavailableError("time-out")),
        type="count",
        count=2,
        most_tries=8,
        limits={"max_attempts": 4},
        inference={"breaker_failures": 3},
    )
    await run(task, at(1, 2, 3, 4))
    assert task.dead == []
    assert {window.tries for window in task.windows} == {8}


async def test_why_messages_were_given_up_is_never_cut_and_told_once() -> None:
    shown: list[str] = []
    why = "because " + "of this and that " * 20 + "THE END"
    task = local_task(
        client=Broken(InferenceRejectedError(why)),
        on_window=lambda found: shown.append("\n".join(shown_lines(found, full=False))),
        type="count",
        count=8,
    )
    await run(task, at(*range(8)))
    [text] = shown
    assert text.count("   dead ") == 1
    assert f"   dead      2, 3, 4 and 4 more: inference: {why}" in text
    assert f"   failed    InferenceRejectedError: {why}" in text


async def test_a_window_is_shown_with_all_that_happened_to_it() -> None:
    task = local_task(type="count", count=5)
    await run(task, at(*range(5)))
    text = "\n".join(shown_lines(task.windows[0], full=False))
    for part in ("5 messages, closed by count", "1: {", "… and 2 more", "[0,1,2,3,4]", "model "):
        assert part in text
    assert "… and 2 more" not in "\n".join(shown_lines(task.windows[0], full=True))
    found = as_dict(task.windows[0])
    assert found["results"] == [{"n": 2 * n} for n in range(5)]
    assert found["calls"][0]["request"] == [0, 1, 2, 3, 4]
    assert json.loads(json.dumps(found)) == found


def test_what_has_no_json_is_shown_as_python_does() -> None:
    assert as_text({"x": {1, 2}}) in ('{"x":[1,2]}', "{'x': {1, 2}}")
    assert "object at" in as_text(object())
    assert as_text({"x": [b"text", b"\xff"]}) == '{"x":["text","\\\\xff"]}'
    assert as_text({"url": "http://me:hush@host/"}) == '{"url":"http://***@host/"}'


def test_lines_of_messages_have_subject_headers_and_time() -> None:
    line = b'{"data": {"n": 1}, "subject": "s", "headers": {"H": "1"}, "time": 12.5}'
    whole = Message(b'{"n":1}', "s", {"H": "1"}, 0, 12_500_000_000)
    assert message_of(line, "message", "x") == whole
    text = message_of(b'{"data": "plain", "time": "1970-01-01T00:00:01Z"}', "message", "x")
    assert text == Message(b"plain", "", None, 0, 1_000_000_000)
    found = list(messages_in([b"a\n", b"\n", b"b"], "data", "x"))
    assert [m.data for m in found] == [b"a", b"b"]
    assert [m.stream_seq for m in found] == [1, 3]  # the lines' numbers


@pytest.mark.parametrize("line", [b"nonsense", b"[1]", b'{"subject": "s"}', b'{"data": 1, "x": 2}'])
def test_a_line_that_is_no_message_is_named_by_its_number(line: bytes) -> None:
    with pytest.raises(ConfigError, match=r"file\.jsonl, line 2"):
        list(messages_in([b'{"data": 1}', line], "message", "file.jsonl"))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl"):
        list(lines_of("nowhere.jsonl"))


def test_a_message_is_the_same_after_it_was_a_line() -> None:
    for data in (b'{"n":1}', b'"text"', b"text", b"[1,2]"):
        message = Message(data, "a.b")
        assert message_of(line_of(message).encode(), "message", "x") == message
