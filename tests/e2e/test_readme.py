"""What the README says is so: its commands and its product really run, its tables are complete."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import BaseModel

from sinfer import InferTaskConfig
from sinfer.inference.base import InferenceConfig
from sinfer.products.task import Limits
from sinfer.settings import PREFIX, Settings
from sinfer.source.config import JetStreamSource
from sinfer.windows.specs import TumblingWindow
from tests.support.documents import ROOT, Document
from tests.support.fresh_shells import FreshShells, fresh_shells, source_line, wait_for

README = Document(ROOT / "README.md")


def section(name: str) -> Document:
    """One section of the README."""
    return Document(README.path, name)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a reader who has cloned the repository, and whose `make setup` is done."""
    directory = tmp_path_factory.mktemp("a reader's home")
    with fresh_shells(directory) as shells:
        [block] = section("See it work").terminals()[:1]
        shells.type(block.replace("make demo", "make --dry-run demo"))
        shells.bring_up_to_date()
        shells.stand_in_for_setup()
    return directory


@pytest.fixture
def shells(home: Path) -> Iterator[FreshShells]:
    with fresh_shells(home) as shells:
        yield shells
    (shells.checkout / ".env").unlink(missing_ok=True)


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for text in (README.text, (ROOT / "CONTRIBUTING.md").read_text()):
        assert set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)) <= targets


def test_links_lead_to_files_and_headings_that_exist() -> None:
    README.check_links()


def test_the_product_from_nothing_makes_a_verdict_of_each_message(shells: FreshShells) -> None:
    follow_the_product_from_nothing(shells)


def follow_the_product_from_nothing(shells: FreshShells) -> None:
    """What the section says, terminal by terminal."""
    document = section("A product from nothing in five minutes")
    document.write_files(shells.checkout, "python")
    first, *others = document.terminals()
    printed = shells.type(first)
    assert "=\n" not in printed
    for block in others:
        told = shells.type(
            block.replace("source /tmp/sinfer-XXXXXXXX/env.sh", source_line(printed))
        )
        assert "published 3 messages" in told
        assert "thermometer" in told
    verdicts = shells.checkout / "verdicts.jsonl"
    wait_for(
        lambda: verdicts.exists() and len(verdicts.read_text().splitlines()) >= 3, *shells.running
    )
    results = [json.loads(line)["result"] for line in verdicts.read_text().splitlines()]
    assert sorted((r["sensor"], r["verdict"]) for r in results) == [
        ("room-1", "fine"),
        ("room-1", "fine"),
        ("room-2", "hot"),
    ]
    [up] = shells.running
    wait_for(lambda: up.log.read_text().count("\nwindow  | rooms/temperatures/room-") >= 2, up)


def test_a_product_from_nothing_is_short() -> None:
    product = section("A product from nothing in five minutes").blocks("python")[0]
    assert len(product.splitlines()) <= 40


def test_a_new_product_is_made_tested_and_run(shells: FreshShells) -> None:
    [block] = section("Develop a product").terminals()
    printed = shells.type(block)
    assert "passed" in printed
    assert "60 fetched, 60 sunk" in printed


def test_the_processes_by_hand_make_a_result_of_each_message(shells: FreshShells) -> None:
    shells.use_other_ports()
    for block in section("Run the processes by hand").terminals():
        shells.type(block)

    def rows() -> int:
        path = shells.checkout / "results.sqlite"
        if not path.exists():
            return 0
        with closing(sqlite3.connect(path)) as connection:
            try:
                return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
            except sqlite3.OperationalError:  # the table is not there yet
                return 0

    wait_for(lambda: rows() >= 1000, *shells.running)
    assert rows() == 1000


@pytest.mark.long
def test_all_of_it_works_with_nothing_but_git_make_and_python(tmp_path: Path) -> None:
    """As the tests above, with the real `make setup` and the real demo. It installs everything."""
    with fresh_shells(tmp_path) as shells:
        [block] = section("See it work").terminals()
        printed = shells.type(block)
        assert "\u2714" in printed
        assert "\u2718" not in printed
        follow_the_product_from_nothing(shells)


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
