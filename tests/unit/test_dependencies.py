"""What an installation brings is all that it imports: declared, packed, and named when missing."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sinfer.errors import ConfigError
from sinfer.extras import EXTRA_OF, extras_named, missing_extra

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]

IMPORT_ALL = '''
import importlib, importlib.abc, json, pkgutil, sys
from importlib.metadata import packages_distributions

brought, modules, beside = json.load(sys.stdin)
distributions = packages_distributions()


class Missing(importlib.abc.MetaPathFinder):
    """Hides every package that an installation would not have."""

    def find_spec(self, name, path=None, target=None):
        owners = distributions.get(name.partition(".")[0], [])
        if owners and not {o.lower().replace("_", "-") for o in owners} & set(brought):
            raise ModuleNotFoundError(f"{name} is not declared", name=name)
        return None


sys.meta_path.insert(0, Missing())
for name in modules:
    importlib.import_module(name)
for package in beside:
    importlib.import_module(package)
'''

BESIDE = [
    "celery.bin.celery", "celery.bin.worker", "celery.bin.beat", "celery.apps.worker",
    "celery.apps.beat", "celery.concurrency.prefork", "celery.fixups.django",
    "kombu.transport.redis", "flower.command", "flower.app", "beat_schedule",
]  # fmt: skip
"""What Celery and Flower load by name, and so no import of ours shows."""


def brought_by(extras: Iterable[str]) -> list[str]:
    """The distributions that pip installs with sinfer and these extras, as they are installed."""
    waiting = [*PROJECT["dependencies"], *(line for extra in extras for line in EXTRAS[extra])]
    brought: set[str] = {"sinfer"}
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                requires = distribution(name).requires or []
            except PackageNotFoundError:
                continue
            brought.add(name)
            for further in requires:
                marker = Requirement(further).marker
                if marker is None or marker.evaluate({"extra": extra}):
                    waiting.append(further)
    return sorted(brought)


def modules_without(extras: set[str]) -> list[str]:
    """The modules of sinfer that need no other extra than these."""
    return [name for name in all_modules() if needs(name) <= extras]


def all_modules() -> Iterator[str]:
    for path in sorted((ROOT / "sinfer").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if "templates" not in parts and parts[-1] != "__main__":
            yield ".".join(parts).removesuffix(".__init__")


NEEDS = {
    "sinfer.embedded.http_server": {"embedded"},
    "sinfer.embedded.model_server": {"embedded"},
    "sinfer.embedded.v2_app": {"embedded"},
    "sinfer.embedded.v2_routes": {"embedded"},
    "sinfer.products.soe.model": {"embedded", "soe"},
    "sinfer.products.soe.optimizer": {"soe"},
    "sinfer.products.soe.surrogate": {"soe"},
    "sinfer.testing": {"testing"},
}
"""Modules that cannot be imported without some extra; all others can."""


def needs(module: str) -> set[str]:
    if module.startswith("sinfer.testing"):
        return NEEDS["sinfer.testing"]
    if module.startswith("sinfer.sinks.sql.") and module != "sinfer.sinks.sql.sink":
        return {"sql"}
    if module.startswith("sinfer.inference.") and "grpc" in module:
        return {"grpc"}
    return NEEDS.get(module, set())


@pytest.mark.parametrize("extras", [[], sorted(EXTRAS.keys() - {"all", "dev"})])
def test_every_module_can_be_imported_with_what_is_declared(extras: list[str]) -> None:
    given = json.dumps([brought_by(extras), modules_without(set(extras)), BESIDE])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL], input=given, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_all_is_all_but_the_tools_of_development() -> None:
    (line,) = EXTRAS["all"]
    assert Requirement(line).extras == EXTRAS.keys() - {"all", "dev"}


def test_the_extra_that_a_missing_module_is_told_with_installs_it() -> None:
    for module, extra in EXTRA_OF.items():
        wheel = {"grpc": "grpcio", "google": "protobuf", "socksio": "httpx"}.get(module, module)
        assert wheel in {Requirement(line).name for line in EXTRAS[extra]}


def test_a_missing_module_of_an_extra_is_told_with_the_remedy() -> None:
    text = r"^here: scipy is not installed; .*'sinfer\[soe\]'$"
    with pytest.raises(ConfigError, match=text), extras_named("here: "):
        raise ModuleNotFoundError("No module named 'scipy.optimize'", name="scipy.optimize")
    with pytest.raises(ModuleNotFoundError), extras_named():
        raise ModuleNotFoundError("No module named 'elsewhere'", name="elsewhere")
    assert missing_extra(ImportError("no such name", name="scipy")) is None


def test_every_file_that_is_no_module_is_packed() -> None:
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["sinfer"]
    for path in (ROOT / "sinfer").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            name = str(path.relative_to(ROOT / "sinfer"))
            assert any(fnmatch(name, pattern) for pattern in patterns), name
