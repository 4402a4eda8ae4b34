"""What `sinfer up` gives to other terminals is understood by every shell, wherever it stands."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinfer.embedded.development import DevelopmentStack
from sinfer.embedded.model_process import EXAMPLE_MODULE

pytestmark = pytest.mark.integration

VALUE = 'it\'s $HOME; "two  words" `true`'


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DevelopmentStack]:
    place = tmp_path / "it's a place"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setenv("SINFER_NATS_USER", "somebody")  # of the user's own servers
    monkeypatch.chdir(tmp_path)
    with DevelopmentStack(
        "example",
        environment=lambda model, database: {"EXAMPLE_VALUE": VALUE},
        model_module=EXAMPLE_MODULE,
        modules=["example"],
        tell=lambda text: None,
    ) as stack:
        yield stack


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh", "fish"])
def test_each_shell_takes_the_file(stack: DevelopmentStack, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    file = shlex.quote(str(stack.write_exports()))
    printed = subprocess.run(
        [shell, "-c", f". {file}; env -0"],
        env={"PATH": "/usr/bin:/bin", "SINFER_NATS_USER": "somebody"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = dict(pair.split("=", 1) for pair in printed.split("\0") if "=" in pair)
    assert found["EXAMPLE_VALUE"] == VALUE
    assert found["SINFER_PRODUCTS"] == "example"
    assert found["SINFER_NATS_USER"] == ""
    assert found["PATH"] == f"{Path(sys.executable).parent}:/usr/bin:/bin"


def test_nothing_is_exported_that_is_so_by_default(stack: DevelopmentStack) -> None:
    empty = {name for name, value in stack.exports.items() if not value}
    assert empty == {"SINFER_NATS_USER"}  # which has to make way
