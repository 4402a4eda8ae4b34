"""What the README says is so: its commands and its product really run, its tables are complete."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from pydantic import BaseModel

from sinfer import InferTaskConfig
from sinfer.inference.base import InferenceConfig
from sinfer.products.task import JetStreamSource, Limits
from sinfer.settings import PREFIX, Settings
from sinfer.windows.specs import TumblingWindow
from tests.e2e.documents import PATIENCE_S, ROOT, Document, Terminal

README = Document(ROOT / "README.md")


def section(name: str) -> Document:
    """One section of the README."""
    return Document(README.path, name)


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
    for text in (README.text, (ROOT / "CONTRIBUTING.md").read_text()):
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_links_lead_to_files_and_headings_that_exist() -> None:
    README.check_links()


def test_the_product_from_nothing_makes_a_verdict_of_each_message(terminal: Terminal) -> None:
    document = section("A product from nothing in five minutes")
    document.write_files(terminal.directory, "python")
    for line in document.commands():
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
    product = section("A product from nothing in five minutes").blocks("python")[0]
    assert len(product.splitlines()) <= 40


def test_the_processes_by_hand_make_a_result_of_each_message(terminal: Terminal) -> None:
    for line in section("Run the processes by hand").commands():
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
    table = dict(re.findall(r"^\| `(SINFER_\w+)` \| (.*?) \|", README.text, re.MULTILINE))
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
    table = section("Tasks").text
    listed = set(re.findall(r"`([a-z_.]+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))))
    for name in model.model_fields.keys() - elsewhere:
        assert part + name in listed
