"""The command starts at once, also as a module, and shells complete it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from sinfer.cli import main
from sinfer.embedded.services import program

HEAVY = {
    "asyncio", "celery", "grpc", "httpx", "kombu", "msgspec", "nats", "pydantic", "redis", "rich",
    "sqlalchemy", "ssl", "yaml",
}  # fmt: skip
"""What takes a while to be imported; commands import it when they are called."""


def output(*command: str, **options: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("name", [None, *sorted(main.commands)])
def test_help_imports_nothing_that_takes_a_while(name: str | None) -> None:
    code = (
        "import json, sys\n"
        f"sys.argv = ['sinfer', *{[name] if name else []!r}, '--help']\n"
        "import sinfer.cli\n"
        "try:\n    sinfer.cli.main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    imported = json.loads(output(sys.executable, "-c", code).splitlines()[-1])
    assert not HEAVY.intersection(imported)


def test_it_runs_as_a_module() -> None:
    assert output(sys.executable, "-m", "sinfer", "--version") == output(
        program("sinfer"), "--version"
    )
    assert "Usage: python -m sinfer" in output(sys.executable, "-m", "sinfer", "--help")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_are_given_a_script_and_the_commands(
    shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("_SINFER_COMPLETE", f"{shell}_source")
    assert "_SINFER_COMPLETE" in output(program("sinfer"))
    monkeypatch.setenv("_SINFER_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "sinfer ")
    monkeypatch.setenv("COMP_CWORD", "" if shell == "fish" else "1")
    given = output(program("sinfer")).replace(",", "\n").replace("\t", "\n").splitlines()
    assert main.commands.keys() <= set(given)


def test_bash_completes_commands_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    script = f"""
        PATH={program("")}:$PATH
        eval "$(_SINFER_COMPLETE=bash_source sinfer)"
        for words in "sinfer st" "sinfer windows re" "sinfer check --pro"; do
            COMP_WORDS=($words); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
            _sinfer_completion sinfer; echo "${{COMPREPLY[@]}}"
        done
    """
    assert output(bash, "-c", script).splitlines() == ["status", "rebuild rerun", "--product"]
