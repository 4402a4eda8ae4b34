"""The tables of the README: every setting and every field of a task, once, with its default."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from pydantic import BaseModel

from sinfer.inference.base import InferenceConfig
from sinfer.products.task import InferTaskConfig, Limits
from sinfer.settings import Settings
from sinfer.source.config import JetStreamSource
from sinfer.windows.specs import TumblingWindow

README = (Path(__file__).parents[2] / "README.md").read_text()


def names_in(section: str) -> list[str]:
    """The names in the first column of a section's table."""
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return [
        name for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for name in row.split(", ")
    ]


def fields(model: type[BaseModel], prefix: str = "") -> set[str]:
    return {f"`{prefix}{name}`" for name in model.model_fields}


def test_every_field_of_a_task_stands_there_once() -> None:
    expected = (
        fields(JetStreamSource, "source.")
        | fields(TumblingWindow, "window.")
        | fields(InferenceConfig, "inference.")
        | fields(Limits, "limits.")
        | fields(InferTaskConfig)
    )
    expected -= {"`source`", "`window`", "`inference`", "`limits`", "`window.size`"}
    assert Counter(names_in("Tasks")) == Counter(expected)


def test_every_setting_stands_there_once() -> None:
    expected = {f"`SINFER_{name.upper()}`" for name in Settings.model_fields}
    assert Counter(names_in("Settings")) == Counter(expected)
