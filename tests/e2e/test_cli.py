"""The command line ends with documented codes and one clear text, never with a traceback."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from importlib.metadata import version

import click
import pytest

from sinfer import exit_codes
from sinfer.cli import SinferGroup, main
from sinfer.embedded.services import program

COMMANDS = sorted(main.commands)


def sinfer(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("sinfer"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_version_is_that_of_the_package() -> None:
    assert sinfer("--version").stdout.strip() == f"sinfer {version('sinfer')}"


def test_no_color_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool | None] = []
    group = SinferGroup("group")

    @group.command()
    @click.pass_context
    def colour(ctx: click.Context) -> None:
        seen.append(ctx.color)

    for no_color in ("", "1"):
        monkeypatch.setenv("NO_COLOR", no_color)
        with pytest.raises(SystemExit):
            group.main(["colour"])
    assert seen == [None, False]


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_has_an_example(command: Sequence[str]) -> None:
    result = sinfer(*command, "--help")
    assert result.returncode == exit_codes.OK
    assert "Example:\n" in result.stdout
    assert f"  sinfer {command[0] if command else 'demo'}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "text"),
    [
        (["ingst"], {}, exit_codes.USAGE, "No such command"),
        (["ingest"], {}, exit_codes.USAGE, "Name the product with --product"),
        (
            ["pause"],
            {"SINFER_PRODUCTS": "example,soe"},
            exit_codes.USAGE,
            "SINFER_PRODUCTS names example, soe",
        ),
        (
            ["ingest"],
            {"SINFER_PRODUCTS": "sinfer.products.nope"},
            exit_codes.CONFIGURATION,
            "'sinfer.products.nope' cannot be imported",
        ),
        (["demo", "--messages", "0"], {}, exit_codes.USAGE, "--messages"),
        (["demo", "--product", "nope"], {}, exit_codes.CONFIGURATION, "example"),
        (["ingest", "--product", "nope"], {}, exit_codes.CONFIGURATION, "'nope' is not known"),
        (
            ["ingest", "--product", "example"],
            {"SINFER_REDIS_ULR": "x"},
            exit_codes.CONFIGURATION,
            "did you mean SINFER_REDIS_URL?",
        ),
        (
            ["ingest", "--product", "example"],
            {"SINFER_LOG_LEVEL": "loud"},
            exit_codes.CONFIGURATION,
            "log_level",
        ),
    ],
)
def test_a_mistake_ends_in_its_code_and_says_the_remedy(
    arguments: list[str], environment: dict[str, str], code: int, text: str
) -> None:
    result = sinfer(*arguments, **environment)
    assert result.returncode == code, result.stderr
    assert text in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
