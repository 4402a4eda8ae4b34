"""`sinfer demo` shows every message's result, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from sinfer.embedded.services import program
from tests.support.until import until_true

PATIENCE_S = 90.0

MANY = "100000"
"""Messages that keep it busy for much longer than it takes to see its first result."""


class Demo:
    """`sinfer demo` as a process, with a temporary directory of its own."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.process = psutil.Popen(
                [program("sinfer"), "demo", *arguments],
                cwd=directory,
                env={**os.environ, "TMPDIR": str(self.temporary)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children: dict[int, psutil.Process] = {}

    def text(self) -> str:
        return self.output.read_text()

    def note_children(self) -> None:
        for child in self.process.children(recursive=True):
            self._children[child.pid] = child

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until_true(condition, self.text, PATIENCE_S)

    def wait_for_text(self, text: str) -> None:
        def shown() -> bool:
            assert self.process.poll() is None, self.text()
            return text in self.text()

        self.wait_for(shown)
        self.note_children()

    def assert_nothing_is_left(self) -> None:
        def is_alive(process: psutil.Process) -> bool:
            try:
                return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
            except psutil.NoSuchProcess:
                return False

        assert self._children
        self.wait_for(lambda: not any(map(is_alive, self._children.values())))
        self.wait_for(lambda: not list(self.temporary.iterdir()))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    started: list[Demo] = []

    def start_one(*arguments: str) -> Demo:
        started.append(Demo(tmp_path, *arguments))
        return started[-1]

    yield start_one
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.wait()


def test_each_message_has_one_correct_result_in_each_sink(start: Callable[..., Demo]) -> None:
    demo = start("--messages", "1234", "--json")  # no multiple of the window: time closes the rest
    demo.wait_for(lambda: len(demo.process.children(recursive=True)) > 6)
    demo.note_children()
    assert demo.process.wait(PATIENCE_S) == 0, demo.text()
    report = json.loads(demo.text())
    assert report["ok"] is True
    assert report["messages"] == 1234
    assert [sink["found"] for sink in report["sinks"]] == [1234, 1234]
    assert report["messages_per_second"] > 0
    assert 0 <= report["close_to_result_ms"]["p50"] <= report["close_to_result_ms"]["p99"]
    demo.assert_nothing_is_left()


def test_kept_it_runs_with_flower_until_ctrl_c(start: Callable[..., Demo]) -> None:
    demo = start("--messages", "100", "--keep")
    demo.wait_for_text("Ctrl-C stops it")
    assert "exactly one correct for each message" in demo.text()
    address = demo.text().split("Flower: ")[1].split()[0]
    with urllib.request.urlopen(f"{address}/api/workers?refresh=1", timeout=30) as response:
        assert json.load(response)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(PATIENCE_S) == 0, demo.text()
    demo.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_nothing_outlives_it_when_it_is_interrupted(
    start: Callable[..., Demo], number: int, code: int
) -> None:
    demo = start("--messages", MANY)
    demo.wait_for_text("result {")
    demo.process.send_signal(number)
    assert demo.process.wait(PATIENCE_S) == code, demo.text()
    assert "Traceback" not in demo.text()
    demo.assert_nothing_is_left()


def test_a_process_that_dies_is_named_with_its_log(start: Callable[..., Demo]) -> None:
    demo = start("--messages", MANY)
    demo.wait_for_text("result {")
    (beat,) = [child for child in demo.process.children() if "beat_schedule" in child.cmdline()]
    beat.kill()
    assert demo.process.wait(PATIENCE_S) == 4, demo.text()
    assert "beat ended with code -9" in demo.text()
    assert "Traceback" not in demo.text()
    demo.assert_nothing_is_left()
