"""What the README says is so: its commands and its product really run, its tables are complete."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pydantic import BaseModel

from sinfer import InferTaskConfig
from sinfer.embedded.process import free_port
from sinfer.embedded.services import (
    BEAT_READY,
    INGEST_READY,
    WORKER_READY,
    Place,
    Readiness,
    Service,
    answers,
    logged,
    program,
)
from sinfer.inference.base import InferenceConfig
from sinfer.products.task import JetStreamSource, Limits
from sinfer.settings import PREFIX, Settings
from sinfer.windows.specs import TumblingWindow

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PATIENCE_S = 60.0


def blocks(language: str, section: str | None = None) -> list[str]:
    """The fenced blocks of a language, in the whole README or under one heading."""
    text = README
    if section is not None:
        text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(section: str | None = None) -> list[str]:
    return [line for block in blocks("sh", section) for line in block.splitlines() if line]


class Terminal:
    """Runs the README's commands: those that go on for ever in the background, others to the end.

    Args:
        directory: where they run.
        ending: stops them.
    """

    def __init__(self, directory: Path, ending: ExitStack) -> None:
        self.directory = directory
        self._ending = ending
        self._model_port = free_port()
        self._flower_port = free_port()
        self.environment = {
            **os.environ,
            "SINFER_NATS_SERVERS": f"nats://127.0.0.1:{free_port()}",
            "SINFER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
            "EXAMPLE_MODEL_URL": f"http://127.0.0.1:{self._model_port}",
            "PATH": f"{Path(program('python')).parent}:{os.environ['PATH']}",
        }
        self._endless: dict[str, Readiness] = {
            "python -m sinfer.embedded": logged("ready; Ctrl-C ends them"),
            "sinfer ingest": INGEST_READY,
            "celery -A sinfer.tasks worker": WORKER_READY,
            "celery -A beat_schedule beat": BEAT_READY,
            "celery -A sinfer.tasks flower": answers(
                f"http://127.0.0.1:{self._flower_port}/healthcheck"
            ),
        }

    def type(self, line: str) -> None:
        """Do what a user does who types this line."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self.environment[name] = value
            return
        for start, ready in self._endless.items():
            if line.startswith(start):
                self._start(line, ready)
                return
        words = shlex.split(line)
        subprocess.run(
            [program(words[0]), *words[1:]],
            cwd=self.directory,
            env=self.environment,
            timeout=PATIENCE_S,
            check=True,
        )

    def _start(self, line: str, ready: Readiness) -> None:
        line = line.replace("--port=5555", f"--port={self._flower_port}")
        if line.endswith("sinfer.embedded"):
            line += f" --model-port {self._model_port}"
        name = f"process-{len(list(self.directory.glob('process-*')))}"
        place = Place(self.directory, self.environment, cwd=self.directory)
        service = Service(name, shlex.split(line), ready, place)
        self._ending.callback(service.stop)
        service.start()
        service.wait_until_ready()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with ExitStack() as ending:
        yield Terminal(tmp_path, ending)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text()):
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_links_lead_to_files_and_headings_that_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        if target.startswith("#"):
            headings = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
            assert target[1:] in {heading.lower().replace(" ", "-") for heading in headings}
        else:
            assert (ROOT / target).exists(), target


def test_the_product_from_nothing_makes_a_verdict_of_each_message(terminal: Terminal) -> None:
    section = "A product from nothing in five minutes"
    for source in blocks("python", section):
        name = re.match(r"# (\w+\.py)\n", source)
        assert name is not None
        (terminal.directory / name[1]).write_text(source)
    for line in commands(section):
        if not line.startswith(("make ", ". .venv")):
            terminal.type(line)
    verdicts = terminal.directory / "verdicts.jsonl"
    wait_for(lambda: verdicts.exists() and len(verdicts.read_text().splitlines()) >= 100)
    lines = [json.loads(line) for line in verdicts.read_text().splitlines()]
    assert len(lines) == 100
    assert len({line["idempotency_key"] for line in lines}) == 100
    counts = {"hot": 0, "fine": 0}
    for line in lines:
        counts[line["result"]["verdict"]] += 1
    assert counts["hot"] == sum(15 + number % 25 > 30 for number in range(100))


def test_a_product_from_nothing_is_short() -> None:
    product = blocks("python", "A product from nothing in five minutes")[0]
    assert len(product.splitlines()) <= 40


def test_the_processes_by_hand_make_a_result_of_each_message(terminal: Terminal) -> None:
    for line in commands("Run the processes by hand"):
        terminal.type(line)

    def rows() -> int:
        path = terminal.directory / "results.sqlite"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(path)) as connection:
            try:
                return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
            except sqlite3.OperationalError:  # the table is not there yet
                return 0

    wait_for(lambda: rows() >= 1000)
    assert rows() == 1000


def test_every_setting_is_listed_with_its_default() -> None:
    table = dict(re.findall(r"^\| `(SINFER_\w+)` \| (.*?) \|", README, re.MULTILINE))
    assert table.keys() == {PREFIX + name.upper() for name in Settings.model_fields}
    for name in ("redis_url", "log_level", "log_format"):
        default = Settings.model_fields[name].default
        assert table[PREFIX + name.upper()] == f"`{default}`"


@pytest.mark.parametrize(
    ("part", "model", "elsewhere"),
    [
        ("", InferTaskConfig, {"source", "window", "inference", "limits"}),
        ("source.", JetStreamSource, set()),
        ("window.", TumblingWindow, {"size"}),
        ("inference.", InferenceConfig, set()),
        ("limits.", Limits, set()),
    ],
)
def test_every_field_of_a_task_is_listed(
    part: str, model: type[BaseModel], elsewhere: set[str]
) -> None:
    table = README.split("\n## Tasks\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"`([a-z_.]+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    for name in model.model_fields.keys() - elsewhere:
        assert part + name in listed
