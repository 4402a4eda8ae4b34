"""Changes of code are noticed, and what is no code is not looked at."""

from __future__ import annotations

import os
from pathlib import Path

from sinfer.embedded.file_watch import FileWatcher


def test_written_added_and_removed_files_are_noticed_once(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "a.py", "inner/b.py"):
        (package / name).write_text("1")
    watcher = FileWatcher([tmp_path], [".py", ".yaml"])
    assert watcher.changed() == set()
    (package / "a.py").write_text("2")
    os.utime(package / "a.py", ns=(1, 1))
    (package / "inner" / "b.py").unlink()
    (package / "c.yaml").write_text("1")
    assert {path.name for path in watcher.changed()} == {"a.py", "b.py", "c.yaml"}
    assert watcher.changed() == set()


def test_other_files_and_folders_that_are_no_packages_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    watcher = FileWatcher([tmp_path, tmp_path / "nowhere"], [".py"])
    (tmp_path / "notes.txt").write_text("1")
    (tmp_path / "data" / "x.py").write_text("1")
    assert watcher.changed() == set()
    (tmp_path / "y.py").write_text("1")
    assert {path.name for path in watcher.changed()} == {"y.py"}
