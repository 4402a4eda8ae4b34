"""What the page on soe says is so: its commands run, its table lists every column."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import logged
from sinfer.products.soe.demo_results import expected_windows
from sinfer.products.soe.simulator import FIRST_TIME_S
from sinfer.products.soe.tasks import QUERY
from tests.support.documents import ROOT, Document, Terminal
from tests.support.until import until

pytestmark = pytest.mark.e2e

PAGE = Document(ROOT / "docs" / "soe.md")


def test_links_lead_to_files_that_exist() -> None:
    PAGE.check_links()


def test_every_column_of_the_task_table_is_listed() -> None:
    columns = QUERY.split("SELECT")[1].split("FROM")[0].split(",")
    names = {column.split(" AS ")[0].strip() for column in columns}
    cells = re.findall(r"^\| (.*?) \|", PAGE.text, re.MULTILINE)
    assert names == set(re.findall(r"`(\w+)`", " ".join(cells)))


async def test_by_hand_it_answers_each_window_of_each_unit(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as ending:
        terminal = Terminal(tmp_path, ending)
        terminal.environment["SOE_MODEL_URL"] = f"http://127.0.0.1:{port}"
        terminal.endless["python -m sinfer.products.soe.model_server"] = logged("model server: ")
        name = "soe.model_server"
        terminal.type_each(
            block.replace(name, f"{name} --port {port}") for block in PAGE.terminals()
        )

        def answers() -> Counter[str]:
            path = tmp_path / "soe.sqlite"
            with closing(sqlite3.connect(path)) as database:
                try:
                    found = database.execute("SELECT task FROM soe_results").fetchall()
                except sqlite3.OperationalError:  # the table is not there yet
                    return Counter()
            return Counter(task for (task,) in found)

        windows = len(expected_windows(FIRST_TIME_S, 60))
        await until(lambda: answers().total() >= 3 * windows, "all answers", 60)
        assert answers() == dict.fromkeys(("north.r1", "north.r2", "south.r1"), windows)
