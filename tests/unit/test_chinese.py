"""The documents in Chinese say what the English ones say: the same code, headings and links."""

from __future__ import annotations

import re
from itertools import zip_longest

import pytest

from tests.support.documents import ROOT, Document

PAIRS = [
    pytest.param("README.md", "README.zh-CN.md", 1, id="README"),
    pytest.param("docs/product-guide.md", "docs/zh/product-guide.md", 0, id="product-guide"),
]
"""English, Chinese, and how many sections the Chinese one has besides, for those who come from
another framework."""

_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]+`")


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def prose_of(name: str) -> str:
    return _BLOCK.sub("", text_of(name))


@pytest.mark.parametrize(("english", "chinese", "more"), PAIRS)
def test_code_is_the_same_in_both_languages(english: str, chinese: str, more: int) -> None:
    """The same blocks in the same order, comments included."""
    pairs = zip_longest(_BLOCK.findall(text_of(english)), _BLOCK.findall(text_of(chinese)))
    for place, (one, other) in enumerate(pairs, 1):
        assert one == other, f"block {place} of {chinese}"


@pytest.mark.parametrize(("english", "chinese", "more"), PAIRS)
def test_both_languages_have_the_same_sections(english: str, chinese: str, more: int) -> None:
    levels = [re.findall(r"^#+", prose_of(name), re.MULTILINE) for name in (english, chinese)]
    if more:
        levels[1].remove("##")
    assert levels[0] == levels[1]


@pytest.mark.parametrize(("english", "chinese", "more"), PAIRS)
def test_tables_have_the_same_rows(english: str, chinese: str, more: int) -> None:
    """Each setting and field of the English tables is in the Chinese ones, with its default."""

    def rows(name: str) -> list[list[str]]:
        lines = re.findall(r"^\| `.*\|$", prose_of(name), re.MULTILINE)
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]

    def names(row: list[str]) -> list[str]:
        return _CODE.findall(f"{row[0]} {row[1]}")

    known = [names(row) for row in rows(chinese)]
    for row in rows(english):
        assert names(row) in known, f"{row[0]} is not in {chinese}, or has another default there"


@pytest.mark.parametrize(("english", "chinese", "more"), PAIRS)
def test_names_in_the_text_are_the_same(english: str, chinese: str, more: int) -> None:
    """Whatever the English text calls by its name in code, the Chinese one does as well."""
    missing = set(_CODE.findall(prose_of(english))) - set(_CODE.findall(prose_of(chinese)))
    assert not missing


@pytest.mark.parametrize(("english", "chinese", "more"), PAIRS)
def test_links_lead_to_files_and_headings_and_to_the_other_language(
    english: str, chinese: str, more: int
) -> None:
    for name, other in ((english, chinese), (chinese, english)):
        document = Document(ROOT / name)
        document.check_links()
        linked = re.findall(r"\]\(([^)#]+)\)", document.text.split("\n## ")[0])
        targets = [(document.path.parent / target).resolve() for target in linked]
        assert ROOT / other in targets
