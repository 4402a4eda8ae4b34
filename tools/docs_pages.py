"""The pages of the site that are made: the first one, from README.md, and the reference.

A hook of MkDocs (``hooks:`` in mkdocs.yml). Links out of the site become names of files.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools import reference  # noqa: E402

MADE_OF = {"index.md": "README.md", "zh/index.md": "README.zh-CN.md"}
"""Pages of the site, and the files at the top of the project that they are."""

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]+)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    readmes = {page: (ROOT / name).read_text("utf-8") for page, name in MADE_OF.items()}
    pages = {**readmes, **reference.pages()}
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site; what lies outside of it is named instead."""

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match.groups("")
        if "://" in target:
            return str(match[0])
        is_readme = page.file.src_uri in MADE_OF
        folder = ROOT if is_readme else (ROOT / "docs" / page.file.src_uri).parent
        path = (folder / target).resolve().relative_to(ROOT)
        if not (ROOT / path).exists():
            return str(match[0])  # of a page that is made, or broken: MkDocs will tell
        for made, name in MADE_OF.items():
            if path == Path(name):
                return f"[{text}]({_up(page)}{made}{anchor})"
        if path.parts[0] == "docs":
            return f"[{text}]({_up(page)}{path.relative_to('docs')}{anchor})"
        return text if str(path) in text else f"{text} (`{path}`)"

    if page.file.src_uri.startswith("reference/"):
        return markdown
    return _LINK.sub(link, markdown)


def _up(page: Page) -> str:
    """From the folder of a page to the top of the site."""
    return "../" * str(page.file.src_uri).count("/")


os.environ.setdefault("NO_COLOR", "1")
