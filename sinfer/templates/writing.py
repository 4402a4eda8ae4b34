"""Writing a new product: the template, under another name."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path

from sinfer.errors import ConfigError

_TEMPLATE = "newproduct"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")


def write_product(name: str, directory: Path) -> list[Path]:
    """Write the package ``directory/name``.

    It may be anywhere: within a package, its modules are called accordingly.

    Args:
        name: of the product and of its package.
        directory: where the package goes; made when it is missing.

    Returns:
        The files, in the order in which to read them.

    Raises:
        ConfigError: the name is no package name, or something is there already.
    """
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} is no name for a product: use small letters, digits and '_', as in a package"
        )
    target = directory / name
    if target.exists():
        raise ConfigError(f"{target} is there already; choose another name or --directory")
    package = ".".join([*_packages_around(directory), name])
    words = {
        f"{__package__}.{_TEMPLATE}": package,
        "NewProduct": "".join(part.capitalize() for part in name.split("_")),
        _TEMPLATE.upper(): name.upper(),
        _TEMPLATE: name,
    }
    written = []
    target.mkdir(parents=True)
    template = files(__package__) / _TEMPLATE
    for source in sorted(template.iterdir(), key=lambda file: _order(file.name)):
        if source.name.startswith("__") and source.name != "__init__.py":
            continue
        file = target / source.name.replace(_TEMPLATE, name)
        file.write_text(_renamed(source.read_text(), words))
        written.append(file)
    return written


_READING_ORDER = ("__init__.py", "task.py", "tasks.py", "tasks.yaml", "pipeline.py", "model.py")


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
