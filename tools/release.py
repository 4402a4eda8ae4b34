"""``make release``: whether version, changelog and commit agree; then wheel and source in dist/.

Nothing is tagged or published: docs/releasing.md says how that is done.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

_HEADING = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", re.MULTILINE)


def disagreements(version: str, changelog: str, tags: list[str], changed: str) -> Iterator[str]:
    """What keeps a version from being released, with the remedy.

    Args:
        version: of pyproject.toml.
        changelog: the text of CHANGELOG.md.
        tags: those that there are.
        changed: what `git status --short` says.
    """
    headings = list(_HEADING.finditer(changelog))
    names = [found[1] for found in headings]
    if not names or names[0] != "Unreleased":
        yield "CHANGELOG.md begins with no heading '## [Unreleased]'"
    else:
        end = headings[1].start() if len(headings) > 1 else len(changelog)
        if re.search(r"^- ", changelog[headings[0].end() : end], re.MULTILINE):
            yield "CHANGELOG.md has lines under [Unreleased]: move them under the version's heading"
    released = [found for found in headings if found[1] != "Unreleased"]
    if not released or released[0][1] != version:
        newest = released[0][1] if released else "none"
        yield f"the newest version in CHANGELOG.md is {newest}, and {version} in pyproject.toml"
    elif not released[0][2]:
        yield f"the heading of {version} in CHANGELOG.md has no date"
    if f"v{version}" in tags:
        yield f"the tag v{version} is there already: choose another version"
    if changed:
        yield f"there are changes that are not committed:\n{changed}"


def main() -> int:
    """Check and build; returns the exit code."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = list(
        disagreements(
            version,
            (ROOT / "CHANGELOG.md").read_text(),
            _git("tag", "--list").split(),
            _git("status", "--short"),
        )
    )
    for text in found:
        print(f"Error: {text}", file=sys.stderr)
    if found:
        return 1
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    subprocess.run([sys.executable, "-m", "build", str(ROOT)], check=True)
    print(f"dist/ has sinfer {version}; now tag it: git tag --annotate v{version}")
    return 0


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.rstrip()


if __name__ == "__main__":
    sys.exit(main())
