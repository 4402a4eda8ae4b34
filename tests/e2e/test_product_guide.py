"""What the guide to writing a product says is so: its product runs, and its test passes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.documents import ROOT, Document, Terminal
from tests.support.until import until

pytestmark = pytest.mark.e2e

GUIDE = Document(ROOT / "docs" / "product-guide.md")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in a directory that holds the guide's product."""
    with ExitStack() as ending:
        terminal = Terminal(tmp_path, ending)
        for language in ("python", "yaml"):
            GUIDE.write_files(tmp_path, language)
        tasks = tmp_path / "pumps.yaml"
        tasks.write_text(tasks.read_text().replace("http://127.0.0.1:8000", terminal.model_url))
        yield terminal


def test_links_lead_to_files_and_headings_that_exist() -> None:
    GUIDE.check_links()


async def test_the_product_of_the_guide_gives_each_pump_its_verdicts(terminal: Terminal) -> None:
    terminal.type_each(GUIDE.terminals())
    written = terminal.directory / "verdicts.jsonl"
    await until(
        lambda: written.exists() and len(written.read_text().splitlines()) >= 6, "six verdicts"
    )
    verdicts = [json.loads(line)["result"] for line in written.read_text().splitlines()]
    assert sorted((v["pump"], v["start"], v["spectra"], v["alarm"]) for v in verdicts) == [
        (pump, 1_700_000_000 + 10 * place, 10, pump == "worn")
        for pump in ("new", "worn")
        for place in range(3)
    ]
    with closing(sqlite3.connect(terminal.directory / "pumps.sqlite")) as database:
        # Sinks are written side by side: this one may be a little later.
        await until(
            lambda: database.execute("SELECT count(*) FROM verdicts").fetchone() == (6,), "six rows"
        )
