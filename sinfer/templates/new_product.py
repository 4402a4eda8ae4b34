"""Writing a new product: the template, under another name."""

from __future__ import annotations

import keyword
import re
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import sinfer
from sinfer.errors import ConfigError
from sinfer.extras import EXTRA_OF
from sinfer.products.registry import DEMONSTRATIONS, load_products
from sinfer.settings import settings

_TEMPLATE = "newproduct"
_PROJECT = "project"
_TEST = f"test_{_TEMPLATE}.py"
_NAME = re.compile(r"[a-z]([a-z0-9_]{0,39}[a-z0-9])?")
_IMPORTS = re.compile(r"^(import pytest|from pydantic import .*)\n\n(?=from sinfer)", re.MULTILINE)
"""Where imports of sinfer stand apart from those of third parties, as in a checkout of sinfer."""

_PLACES_OF_A_PROJECT = frozenset({"build", "dist", "tests"})
"""What stands beside the package, or what building it puts there."""


def write_product(name: str, directory: Path) -> list[Path]:
    """Write a product: a project of its own or, within a package, a package.

    A project is ``directory/name`` with a ``pyproject.toml``, an image, the package and its test.
    Within a package there is no project to make: ``directory/name`` is the package then, and its
    modules are called accordingly.

    Args:
        name: of the product, of its package and of its distribution.
        directory: where it goes; made when it is missing.

    Returns:
        The files, in the order in which to read them.

    Raises:
        ConfigError: the name cannot be that of a package, a distribution or a product, something is
            there already, or it cannot be written.
    """
    _check_name(name)
    target = directory / name
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} is there already; choose another name or --directory")
    around = _packages_around(directory)
    if not around:
        _check_import(name)
        _check_distribution(name)
    texts = dict(_package(name, around) if around else _project(name))
    if around and not _is_beside_sinfer(directory):
        texts = {file: _IMPORTS.sub(r"\1\n", text) for file, text in texts.items()}
    try:
        target.mkdir(parents=True)
    except OSError as error:
        raise ConfigError(f"{target} cannot be made: {error.strerror}") from None
    try:
        for file, text in texts.items():
            (target / file).parent.mkdir(exist_ok=True)
            (target / file).write_text(text)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        raise ConfigError(f"{target} cannot be written: {error.strerror}") from None
    return [target / file for file in texts]


_READING_ORDER = ("__init__.py", "task.py", "tasks.py", "tasks.yaml", "pipeline.py", "model.py")


def _package(name: str, around: list[str]) -> Iterator[tuple[Path, str]]:
    """The files of the package, by their place in it."""
    package = ".".join([*around, name])
    folder = files(__package__) / _TEMPLATE
    for source in sorted(folder.iterdir(), key=lambda file: _order(file.name)):
        if source.name.startswith("__") and source.name != "__init__.py":
            continue
        place = Path(source.name.replace(_TEMPLATE, name))
        yield place, _renamed(source.read_text(), name, package)


def _project(name: str) -> Iterator[tuple[Path, str]]:
    """The files of a project, by their place in it."""
    folder = files(__package__) / _PROJECT
    for source in ("pyproject.toml", "Dockerfile"):
        yield Path(source), _renamed((folder / f"{source}.in").read_text(), name, name)
    for place, text in _package(name, []):
        text = _IMPORTS.sub(r"\1\n", text)
        if place.name == _TEST.replace(_TEMPLATE, name):
            yield "tests" / place, text.replace("from . import", f"from {name} import")
        else:
            yield name / place, text


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        hint = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        hint = hint if _NAME.fullmatch(hint) else hint.lstrip("0123456789_")[:41].rstrip("_")
        suggestion = f", such as {hint!r}" if _NAME.fullmatch(hint) else ""
        raise ConfigError(
            f"{name!r} is no name for a product: a package will have it, so begin with a letter and"
            f" use small letters, digits and '_' between them, at most 41{suggestion}"
        )
    if keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} is a word of Python, so no package can have that name; choose another, such"
            f" as {f'{name}_product'!r}"
        )
    if {f"{_class(name)}Pipeline", f"{_class(name)}Task"} & set(sinfer.__all__):
        raise ConfigError(f"{name!r} would hide what sinfer itself has; choose another name")
    products, _ = load_products(settings().products)
    if name in products or name in DEMONSTRATIONS:
        raise ConfigError(f"there is a product {name!r} already; choose another name")


def _check_import(name: str) -> None:
    """A package at the top must not hide another, or be hidden by it."""
    if name in sys.stdlib_module_names:
        raise ConfigError(f"{name!r} is a module of Python itself; choose another name")
    if name in _PLACES_OF_A_PROJECT:
        raise ConfigError(f"{name!r} is a folder that every project has; choose another name")
    if name in EXTRA_OF:
        raise ConfigError(
            f"{name!r} is a package that sinfer[{EXTRA_OF[name]}] uses; choose another name"
        )
    try:
        found = find_spec(name)
    except (ImportError, ValueError):
        return
    if found is not None:
        where = f" in {Path(found.origin).parent}" if found.origin else ""
        raise ConfigError(
            f"{name!r} is a package that is there already{where}; choose another name"
        )


def _check_distribution(name: str) -> None:
    """To install the product would remove the distribution that has its name."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return
    raise ConfigError(
        f"{found.metadata['Name']!r} is installed, and installing the product would replace it;"
        " choose another name"
    )


def _is_beside_sinfer(directory: Path) -> bool:
    """Whether tools will take sinfer for the same project as the product."""
    return any((above / "sinfer" / "__init__.py").exists() for above in _parents(directory))


def _parents(directory: Path) -> list[Path]:
    directory = directory.resolve()
    return [directory, *directory.parents]


def _order(name: str) -> int:
    return _READING_ORDER.index(name) if name in _READING_ORDER else len(_READING_ORDER)


def _class(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _renamed(text: str, name: str, package: str) -> str:
    """A text of the template as the product's."""
    words = {
        f"{__package__}.{_TEMPLATE}": package,
        "NewProduct": _class(name),
        _TEMPLATE.upper(): name.upper(),
        _TEMPLATE: name,
        "sinfer>=0.0": f"sinfer>={'.'.join(version('sinfer').split('.')[:2])}",
    }
    return re.sub("|".join(map(re.escape, words)), lambda found: words[found[0]], text)


def _packages_around(directory: Path) -> list[str]:
    """The packages that a directory is in, outermost first."""
    packages: list[str] = []
    directory = directory.resolve()
    while (directory / "__init__.py").exists():
        packages.insert(0, directory.name)
        directory = directory.parent
    return packages
