"""Noticing that files change: by looking at them, a few times a second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

_SKIPPED = {"__pycache__", ".git", ".venv", "node_modules"}


class FileWatcher:
    """Watches the files of some folders, and of the packages in them.

    Args:
        folders: which.
        suffixes: of the files that count, such as ``.py``.
    """

    def __init__(self, folders: Iterable[Path], suffixes: Iterable[str]) -> None:
        self._folders = list(dict.fromkeys(folder.resolve() for folder in folders))
        self._suffixes = set(suffixes)
        self._known = self._look()

    def changed(self) -> set[Path]:
        """Files that were written, added or removed since the last call."""
        known, self._known = self._known, self._look()
        return {path for path, _ in known.items() ^ self._known.items()}

    def _look(self) -> dict[Path, tuple[int, int]]:
        found = {}
        for folder in self._folders:
            for path in _files(folder):
                if path.suffix in self._suffixes:
                    try:
                        stat = path.stat()
                    except OSError:  # gone meanwhile
                        continue
                    found[path] = (stat.st_mtime_ns, stat.st_size)
        return found


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    in_package = _is_package(folder)
    for path in entries:
        if path.is_dir():
            if path.name not in _SKIPPED and (in_package or _is_package(path)):
                yield from _files(path)
        else:
            yield path


def _is_package(folder: Path) -> bool:
    return (folder / "__init__.py").exists()
