"""Links in all documents lead to files and headings that exist, as read in the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.documents import ROOT, Document

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FOR_MAINTAINERS = {"releasing.md", "architecture.md", "glossary.md"}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_what_exists(path: Path) -> None:
    if path.name != "CHANGELOG.md":
        Document(path).check_links()


def test_the_readme_leads_to_every_guide() -> None:
    readme = (ROOT / "README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        if path.name not in FOR_MAINTAINERS:  # CONTRIBUTING leads there
            assert f"(docs/{path.name})" in readme
