"""Writing a new product: the template, under another name."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from sinfer.errors import ConfigError
from sinfer.products.registry import DEMONSTRATIONS, load_products
from sinfer.settings import settings

_TEMPLATE = "newproduct"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
_IMPORTS = re.compile(r"^(import pytest|from pydantic import .*)\n\n(?=from sinfer)", re.MULTILINE)
"""Where imports of sinfer stand apart from those of third parties, as in a checkout of sinfer."""


def write_product(name: str, directory: Path) -> list[Path]:
    """Write the package ``directory/name``.

    It may be anywhere: within a package, its modules are called accordingly.

    Args:
        name: of the product and of its package.
        directory: where the package goes; made when it is missing.

    Returns:
        The files, in the order in which to read them.

    Raises:
        ConfigError: the name is no package name, a package or a product has it, or something is
            there already.
    """
    _check_name(name)
    target = directory / name
    if target.exists():
        raise ConfigError(f"{target} is there already; choose another name or --directory")
    around = _packages_around(directory)
    if not around:
        _check_import(name)
    package = ".".join([*around, name])
    words = {
        f"{__package__}.{_TEMPLATE}": package,
        "NewProduct": "".join(part.capitalize() for part in name.split("_")),
        _TEMPLATE.upper(): name.upper(),
        _TEMPLATE: name,
    }
    written = []
    target.mkdir(parents=True)
    template = files(__package__) / _TEMPLATE
    beside_sinfer = _is_beside_sinfer(directory)
    for source in sorted(template.iterdir(), key=lambda file: _order(file.name)):
        if source.name.startswith("__") and source.name != "__init__.py":
            continue
        file = target / source.name.replace(_TEMPLATE, name)
        text = _renamed(source.read_text(), words)
        if not beside_sinfer:
            text = _IMPORTS.sub(r"\1\n", text)
        file.write_text(text)
        written.append(file)
    return written


_READING_ORDER = ("__init__.py", "task.py", "tasks.py", "tasks.yaml", "pipeline.py", "model.py")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        hint = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        suggestion = f", such as {hint!r}" if _NAME.fullmatch(hint) else ""
        raise ConfigError(
            f"{name!r} is no name for a product: a package will have it, so use small letters,"
            f" digits and '_'{suggestion}"
        )
    if keyword.iskeyword(name):
        raise ConfigError(f"{name!r} is a word of Python, so no package can have that name")
    products, _ = load_products(settings().products)
    if name in products or name in DEMONSTRATIONS:
        raise ConfigError(f"there is a product {name!r} already; choose another name")


def _check_import(name: str) -> None:
    """A package at the top must not hide another, or be hidden by it."""
    if name in sys.stdlib_module_names:
        raise ConfigError(f"{name!r} is a module of Python itself; choose another name")
    try:
        found = find_spec(name)
    except (ImportError, ValueError):
        return
    if found is not None:
        where = f" in {Path(found.origin).parent}" if found.origin else ""
        raise ConfigError(
            f"{name!r} is a package that is there already{where}; choose another name"
        )


def _is_beside_sinfer(directory: Path) -> bool:
    """Whether tools will take sinfer for the same project as the product."""
    return any((above / "sinfer" / "__init__.py").exists() for above in _parents(directory))


def _parents(directory: Path) -> list[Path]:
    directory = directory.resolve()
    return [directory, *directory.parents]


def _order(name: str) -> int:
    return _READING_ORDER.index(name) if name in _READING_ORDER else len(_READING_ORDER)


def _renamed(text: str, words: dict[str, str]) -> str:
    for old, new in words.items():
        text = text.replace(old, new)
    return text


def _packages_around(directory: Path) -> list[str]:
    """The packages that a directory is in, outermost first."""
    packages: list[str] = []
    directory = directory.resolve()
    while (directory / "__init__.py").exists():
        packages.insert(0, directory.name)
        directory = directory.parent
    return packages
