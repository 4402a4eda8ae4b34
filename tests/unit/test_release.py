"""A version is released when version, changelog, tags and commit agree, and says what does not."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tools.release import disagreements

ROOT = Path(__file__).parents[2]
READY = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-11-30\n\n### Added\n\n- A thing.\n"


def test_what_agrees_is_released() -> None:
    assert list(disagreements("1.2.0", READY, ["v1.1.0"], "")) == []


@pytest.mark.parametrize(
    ("version", "changelog", "tags", "changed", "told"),
    [
        ("1.3.0", READY, [], "", "is 1.2.0, and 1.3.0 in pyproject.toml"),
        ("1.2.0", READY, ["v1.2.0"], "", "v1.2.0 is there already"),
        ("1.2.0", READY, [], " M README.md", "not committed:\n M README.md"),
        ("1.2.0", READY.replace(" - 2026-11-30", ""), [], "", "has no date"),
        ("1.2.0", READY.replace("## [1.2", "- More.\n\n## [1.2"), [], "", "under [Unreleased]"),
        ("1.2.0", READY.replace("## [Unreleased]\n\n", ""), [], "", "begins with no heading"),
        ("1.2.0", "# Changelog\n", [], "", "is none, and 1.2.0"),
    ],
)
def test_what_does_not_agree_is_told(
    version: str, changelog: str, tags: list[str], changed: str, told: str
) -> None:
    assert any(told in text for text in disagreements(version, changelog, tags, changed))


def test_the_version_of_the_project_is_the_newest_in_the_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    headings = re.findall(r"^## \[(\d.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version
