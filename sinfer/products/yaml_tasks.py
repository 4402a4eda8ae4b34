"""Tasks in YAML files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import yaml

from sinfer.errors import UnavailableError
from sinfer.products.managers import DEFAULT_REFRESH_S, BrokenTask, Listed, TaskManager
from sinfer.products.task import InferTaskConfig
from sinfer.products.yaml_text import load_yaml

C = TypeVar("C", bound=InferTaskConfig)


_Signature: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Content:
    """What a file held when it was last read.

    Attributes:
        signature: changes whenever the file does.
        tasks: those of the last time that it could be read.
        problem: why it cannot be read now; empty when it can.
    """

    signature: _Signature | None
    tasks: list[Any]
    problem: str = ""


class YamlTaskManager(TaskManager[C]):
    """Reads tasks from a YAML file, or from all ``*.yaml`` and ``*.yml`` files of a folder.

    A file holds one task, a list of tasks, or a mapping with such a list under ``tasks``. A file
    that cannot be read any more keeps the tasks that it had, and is reported.

    Args:
        path: the file or folder. A relative one is looked up from the working directory.
        refresh: how often to look for changes, in seconds.
    """

    def __init__(self, path: str | Path, *, refresh: float = DEFAULT_REFRESH_S) -> None:
        self._path = Path(path)
        self.refresh = refresh
        self._contents: dict[Path, _Content] = {}

    def list_tasks(self) -> Listed[C]:
        """All tasks of all files.

        Raises:
            UnavailableError: the file or folder is not there.
        """
        contents = {file: self._content(file) for file in self._files()}
        self._contents = contents
        listed: list[C | Mapping[str, Any] | BrokenTask] = []
        for file, content in contents.items():
            if content.problem:
                listed.append(BrokenTask(str(file), content.problem))
            listed += content.tasks
        return listed

    def _files(self) -> list[Path]:
        try:
            if not self._path.is_dir():
                self._path.stat()
                return [self._path]
            return sorted(
                file
                for file in self._path.iterdir()
                if file.suffix in (".yaml", ".yml") and not file.name.startswith(".")
            )
        except OSError as error:
            raise UnavailableError(
                f"tasks cannot be read from {self._path}: {error.strerror}"
            ) from error

    def _content(self, file: Path) -> _Content:
        known = self._contents.get(file, _Content(None, []))
        try:
            found = file.stat()
            signature = (found.st_mtime_ns, found.st_size, found.st_ino)
            if signature == known.signature:
                return known
            text = file.read_bytes()
        except OSError as error:
            return _Content(None, known.tasks, f"cannot be read: {error.strerror}")
        try:
            return _Content(signature, _tasks_in(load_yaml(text)))
        except (yaml.YAMLError, ValueError) as error:
            problem = " ".join(str(error).split())
            return _Content(signature, known.tasks, f"is not understood: {problem}")


def _tasks_in(document: Any) -> list[Any]:
    """The tasks of a document.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(document, dict) and set(document) == {"tasks"}:
        document = document["tasks"]
    if document is None:
        return []
    if isinstance(document, list):
        return document
    if isinstance(document, dict):
        return [document]
    raise ValueError("a file holds a task, a list of tasks, or such a list under 'tasks'")
