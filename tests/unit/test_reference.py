"""The reference is made from the code: nothing that users can write or read is left out of it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from pydantic import Field

from sinfer import InferTaskConfig, exit_codes
from sinfer.cli import main
from sinfer.config.units import unit
from sinfer.inference.base import InferenceClient
from sinfer.operations.metrics import METRICS, Metric
from sinfer.settings import PREFIX, Settings
from sinfer.sinks.base import Sink
from sinfer.sinks.formats import RESULT_FORMATS
from tools import reference

ROOT = Path(__file__).parents[2]
PAGES = reference.pages()


def page(name: str) -> str:
    return PAGES[f"reference/{name}.md"]


def shipped(registry: dict[str, type]) -> set[str]:
    rooms = ("sinfer.inference.", "sinfer.sinks.")
    return {name for name, plugin in registry.items() if plugin.__module__.startswith(rooms)}


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    documents = [str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("*.md")]
    for place in [*PAGES, *documents]:
        assert f": {place}\n" in navigation, place


def test_every_client_sink_and_setting_is_in_it() -> None:
    headings = set(re.findall(r"^## (.*)$", page("tasks"), re.MULTILINE))
    assert {f"inference: {name}" for name in shipped(InferenceClient.registry)} <= headings
    assert {f"sinks: {name}" for name in shipped(Sink.registry)} <= headings
    for name in Settings.model_fields:
        assert f"| `{PREFIX}{name.upper()}` |" in page("settings")


def test_a_field_says_its_unit_default_and_meaning() -> None:
    assert "| `max_attempts` | integer | attempts | `5` | Dead-letter" in page("tasks")
    assert "| `lease` | text such as `250ms` or number | seconds, or as written | `30s` |" in page(
        "tasks"
    )
    assert "| `SINFER_TICK` | text such as `250ms` or number | seconds" in page("settings")


def test_every_command_and_exit_code_is_in_it() -> None:
    def paths(command: click.Command, path: str) -> list[str]:
        further = getattr(command, "commands", {}).items()
        return [path, *(p for name, found in further for p in paths(found, f"{path} {name}"))]

    headings = set(re.findall(r"^##+ (.*)$", page("commands"), re.MULTILINE))
    assert set(paths(main, "sinfer")) <= headings
    numbers = {
        value
        for name, value in vars(exit_codes).items()
        if name.isupper() and isinstance(value, int)
    }
    listed = re.findall(r"^\| (\d+) \|", page("commands"), re.MULTILINE)
    assert sorted(map(int, listed)) == sorted(numbers)


def test_every_sink_says_what_a_reader_finds() -> None:
    assert RESULT_FORMATS.keys() == shipped(Sink.registry)
    for sink in RESULT_FORMATS:
        assert f"\n## {sink}\n" in page("results")


def test_every_metric_is_in_it() -> None:
    for name in METRICS:
        assert f"| `{name}` |" in page("metrics")


def test_metrics_that_documents_name_exist() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        named = set(re.findall(r"\bsinfer_[a-z_]+", document.read_text()))
        others = {"sinfer_products"}
        assert named - others <= METRICS.keys(), document


def test_what_is_not_described_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(InferTaskConfig):
        bare: int = Field(default=1, json_schema_extra=unit("things"))

    @click.command()
    @click.option("--bare")
    def command(bare: str) -> None:
        """Described itself."""

    with monkeypatch.context() as patch:
        patch.setattr(reference, "InferTaskConfig", Odd)
        with pytest.raises(ValueError, match="Task: bare is not described"):
            list(reference.tasks_page())
    with monkeypatch.context() as patch:
        patch.setitem(main.commands, "odd", command)
        with pytest.raises(ValueError, match="sinfer odd --bare is not described"):
            list(reference.commands_page())
        command.help = None
        with pytest.raises(ValueError, match="sinfer odd is not described"):
            list(reference.commands_page())
    with monkeypatch.context() as patch:
        patch.setitem(METRICS, "sinfer_odd", Metric("sinfer_odd", ""))
        with pytest.raises(ValueError, match="sinfer_odd is not described"):
            list(reference.metrics_page())
    with monkeypatch.context() as patch:
        patch.setattr(exit_codes, "ODD", 5, raising=False)
        with pytest.raises(ValueError, match="ODD is not described"):
            list(reference.commands_page())
    with monkeypatch.context() as patch:
        patch.setitem(RESULT_FORMATS["jsonl"], "odd", " ")
        with pytest.raises(ValueError, match="jsonl: odd is not described"):
            list(reference.results_page())


def test_a_setting_without_a_meaning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Settings):
        bare: str = ""

    monkeypatch.setattr(reference, "Settings", Odd)
    with pytest.raises(ValueError, match="bare is not described"):
        list(reference.settings_page())
