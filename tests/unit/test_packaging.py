"""The files that pin versions agree with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
RUNTIME = [
    *PROJECT["dependencies"],
    *(line for extra in EXTRAS.keys() - {"all", "dev"} for line in EXTRAS[extra]),
]


def pins(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line[:1] not in ("", "#")]
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def test_the_oldest_lane_holds_exactly_the_floors() -> None:
    floors = {}
    for line in RUNTIME:
        requirement = Requirement(line)
        (floor,) = [s.version for s in requirement.specifier if s.operator == ">="]
        floors[canonicalize_name(requirement.name)] = Version(floor)
    assert pins("constraints-oldest.txt") == floors


def test_every_dependency_is_pinned_within_its_range() -> None:
    pinned = pins("constraints.txt")
    for line in [*RUNTIME, *EXTRAS["dev"]]:
        requirement = Requirement(line)
        if requirement.name != "sinfer":
            version = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), line


def test_pins_name_versions_and_no_host() -> None:
    for name in (
        "constraints.txt",
        "constraints-oldest.txt",
        "constraints-mlserver.txt",
        "constraints-docs.txt",
    ):
        for line in (ROOT / name).read_text().splitlines():
            assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.!+-]+", line), line
