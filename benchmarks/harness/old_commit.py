"""sinfer as it was at another commit, to run beside what is here."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks.harness.system import System
from benchmarks.systems.catalogue import KEYED, OLD_KEYED
from sinfer.embedded.services import Place, Service
from sinfer.errors import ConfigError


@contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """A directory with the files of a commit, for as long as the context lasts.

    Raises:
        ConfigError: git does not know it.
    """
    with tempfile.TemporaryDirectory(prefix="sinfer-old-") as directory:
        archive = Path(directory) / "sinfer.tar"
        made = subprocess.run(
            ["git", "archive", "--output", str(archive), commit], capture_output=True, text=True
        )
        if made.returncode:
            raise ConfigError(f"--old {commit}: {made.stderr.strip()}")
        files = Path(directory) / "files"
        files.mkdir()
        subprocess.run(["tar", "-xf", str(archive), "-C", str(files)], check=True)
        yield files


def old_keyed(files: Path) -> System:
    """The keyed system with the code in a directory, and the libraries of this environment."""

    def services(place: Place) -> list[Service]:
        path = os.pathsep.join(filter(None, (str(files), os.environ.get("PYTHONPATH"))))
        there = replace(place, cwd=files, environment={**place.environment, "PYTHONPATH": path})
        return KEYED.services(there)

    return replace(KEYED, name=OLD_KEYED, services=services)
