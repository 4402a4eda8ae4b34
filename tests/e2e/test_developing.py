"""From `sinfer new` to a product that runs: its test, then `sinfer run`, `up` and `publish`."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from sinfer import exit_codes
from sinfer.embedded.child_process import ChildProcess
from sinfer.embedded.services import program
from tests.support.deployment import PATIENCE_S, environment_without_settings
from tests.support.documents import ROOT, Document, Terminal
from tests.support.fresh_shells import source_line
from tests.support.until import until_true

pytestmark = pytest.mark.e2e

ENVIRONMENT = environment_without_settings()


def sinfer(
    directory: Path, *words: str, code: int = 0, more: Mapping[str, str] | None = None
) -> str:
    """Run a command to its end; returns what it printed."""
    finished = subprocess.run(
        [program("sinfer"), *words],
        cwd=directory,
        env={**ENVIRONMENT, **(more or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert finished.returncode == code, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished.stdout if code == 0 else finished.stdout + finished.stderr


def run_tests(directory: Path, target: str) -> None:
    """Run pytest as a user does, with warnings as errors."""
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    finished = subprocess.run(
        [*command, "-o", "asyncio_default_fixture_loop_scope=function", target],
        cwd=directory,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.fixture
def pumps(tmp_path: Path) -> Path:
    """The directory of a new project."""
    sinfer(tmp_path, "new", "pumps")
    return tmp_path / "pumps"


def test_a_new_product_passes_its_test_and_runs_at_once(pumps: Path) -> None:
    run_tests(pumps, ".")
    run_tests(pumps.parent, "pumps")
    printed = sinfer(
        pumps, "run", "--product", "pumps", "--input", "pumps/samples.jsonl", "--virtual-time"
    )
    assert "60 fetched, 60 sunk" in printed
    assert len((pumps / "pumps.jsonl").read_text().splitlines()) == 60


def test_the_page_on_tasks_says_what_works(tmp_path: Path) -> None:
    page = Document(ROOT / "docs" / "tasks.md")
    page.check_links()
    for block in page.blocks("python"):
        finished = subprocess.run(
            [sys.executable, "-c", block],
            cwd=tmp_path,
            env={**ENVIRONMENT, "DB_PASSWORD": "x", "RESULTS_URL": "sqlite:///x"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert finished.returncode == 0, finished.stderr


def test_a_new_product_inside_a_package_is_called_accordingly(tmp_path: Path) -> None:
    package = tmp_path / "plant" / "products"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    sinfer(tmp_path, "new", "pumps", "--directory", "plant/products")
    run_tests(tmp_path, "plant")
    printed = sinfer(
        tmp_path, "run", "--product", "plant.products.pumps", "--json", "--no-sinks",
        "--virtual-time", "--input", "plant/products/pumps/samples.jsonl",
    )  # fmt: skip
    windows = [json.loads(line) for line in printed.splitlines()]
    assert sum(len(window["results"]) for window in windows) == 60


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Pumps", "such as 'pumps'"),
        ("my-pumps", "such as 'my_pumps'"),
        ("a/b", "such as 'a_b'"),
        ("9", "is no name"),
        ("9lives", "begin with a letter"),
        ("pumps_", "such as 'pumps'"),
        ("class", "a word of Python, so no package can have that name; choose another, such as"),
        ("json", "a module of Python"),
        ("sinfer", "a package that is there already"),
        ("pydantic", "a package that is there already"),
        ("pyyaml", "'PyYAML' is installed, and installing the product would replace it"),
        ("tests", "a folder that every project has"),
        ("infer", "would hide what sinfer itself has"),
        ("example", "there is a product 'example' already"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path: Path, name: str, why: str) -> None:
    assert why in sinfer(tmp_path, "new", "--", name, code=exit_codes.CONFIGURATION)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["alone", "beside sinfer"])
def test_a_new_product_is_formatted_for_where_it_is(tmp_path: Path, place: str) -> None:
    if place == "beside sinfer":
        (tmp_path / "sinfer").symlink_to(ROOT / "sinfer")
    (tmp_path / "products").mkdir()
    sinfer(tmp_path / "products", "new", "heat_pumps")
    for command in (["check", "--select", "E,F,W,I,B,UP,SIM"], ["format", "--check"]):
        finished = subprocess.run(
            [program("ruff"), *command, "--no-cache", "products"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_nothing_is_written_over(pumps: Path) -> None:
    mine = (pumps / "pumps" / "pipeline.py").read_text() + "# mine\n"
    (pumps / "pumps" / "pipeline.py").write_text(mine)
    told = sinfer(pumps.parent, "new", "pumps", code=exit_codes.CONFIGURATION)
    assert "pumps is there already" in told
    assert (pumps / "pumps" / "pipeline.py").read_text() == mine


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = sinfer(
        tmp_path, "new", "pumps", "--directory", "file/below", code=exit_codes.CONFIGURATION
    )
    assert "file/below/pumps cannot be made" in told
    (tmp_path / "pumps").symlink_to(tmp_path / "nowhere")
    assert "there already" in sinfer(tmp_path, "new", "pumps", code=exit_codes.CONFIGURATION)


def test_a_name_with_the_templates_own_name_in_it_is_replaced_once(tmp_path: Path) -> None:
    sinfer(tmp_path, "new", "newproduct_2")
    run_tests(tmp_path / "newproduct_2", ".")
    words = (tmp_path / "newproduct_2" / "newproduct_2" / "tasks.yaml").read_text()
    assert "id: newproduct_2_1\n" in words
    assert '"newproduct_2.model:predict"' in words


def test_the_entry_point_of_a_new_product_leads_to_it_from_anywhere(
    pumps: Path, tmp_path: Path
) -> None:
    """As pip would install it; tests/install has pip do so."""
    project = tomllib.loads((pumps / "pyproject.toml").read_text())["project"]
    [(name, value)] = project["entry-points"]["sinfer.products"].items()
    site = tmp_path / "site"
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(f"[sinfer.products]\n{name} = {value}\n")
    (site / "pumps").symlink_to(pumps / "pumps")
    samples = str(pumps / "pumps" / "samples.jsonl")
    for product in ([], ["--product", "pumps"]):
        printed = sinfer(
            tmp_path, "run", *product, "--input", samples, "--virtual-time", "--no-sinks",
            more={"PYTHONPATH": str(site)},
        )  # fmt: skip
        assert "60 fetched, 60 sunk" in printed


def test_the_guide_shows_the_project_as_it_is_written(pumps: Path) -> None:
    guide = Document(ROOT / "docs" / "product-guide.md")
    [shown] = guide.blocks("toml")
    assert shown == "# pyproject.toml\n" + (pumps / "pyproject.toml").read_text()
    assert guide.blocks("dockerfile") == [(pumps / "Dockerfile").read_text()]


def test_the_project_seen_from_outside_is_told_as_what_it_is(pumps: Path) -> None:
    told = sinfer(pumps.parent, "run", "--product", "pumps", code=exit_codes.CONFIGURATION)
    assert f"({pumps}) and no package; if it is the project of the product, go into it" in told


def test_run_reads_stdin_and_ends_with_1_when_a_message_was_given_up(pumps: Path) -> None:
    lines = '{"sensor": "a", "value": 1, "time": 0}\nnonsense\n'
    finished = subprocess.run(
        [program("sinfer"), "run", "--product", "pumps", "--input", "-", "--no-sinks"],
        cwd=pumps,
        env=ENVIRONMENT,
        input=lines,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert finished.returncode == exit_codes.FAILED
    assert '"prediction":2.0' in finished.stdout
    assert "dead: stdin, line 2: preprocess" in finished.stdout
    assert not (pumps / "pumps.jsonl").exists()


def test_the_shipped_products_run_from_nothing_at_all_as_the_page_on_tasks_says(
    tmp_path: Path,
) -> None:
    nowhere = {
        "SINFER_NATS_SERVERS": "nats://127.0.0.1:1",
        "SINFER_REDIS_URL": "redis://127.0.0.1:1",
    }
    [block] = Document(ROOT / "docs" / "tasks.md").blocks("sh")
    finished = subprocess.run(
        ["bash", "-o", "pipefail", "-ec", block],
        cwd=tmp_path,
        env={**Terminal(tmp_path, ExitStack()).environment, **nowhere},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    example, soe = finished.stdout.split("3 windows; messages: 250 fetched, 250 sunk")
    assert '"high":false' in example
    assert "message   1 soe.north.r1.temperature: {" in soe
    assert '"status":"converged"' in soe
    assert "500 fetched, 500 sunk\n1000 messages on subjects that the task does not read" in soe
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["messages.jsonl", "readings.jsonl"]


def test_a_product_that_is_one_module_is_told_that_it_ships_no_samples(tmp_path: Path) -> None:
    readme = Document(ROOT / "README.md", "A product from nothing in five minutes")
    readme.write_files(tmp_path, "python")
    for words in (["publish"], ["publish", "--print"], ["run", "--with-model"]):
        printed = sinfer(
            tmp_path, *words, "--product", "thermometer", code=exit_codes.CONFIGURATION
        )
        assert "nothing to demonstrate" in printed


class Typing:
    """`sinfer run` on a terminal, with somebody who types."""

    def __init__(self, directory: Path, *words: str, stdin: Path | None = None) -> None:
        self._mine, theirs = pty.openpty()
        with ExitStack() as opened:
            self.process = subprocess.Popen(
                [program("sinfer"), "run", "--product", "pumps", "--no-sinks", *words],
                cwd=directory,
                env=ENVIRONMENT,
                stdin=theirs if stdin is None else opened.enter_context(stdin.open("rb")),
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
                preexec_fn=lambda: fcntl.ioctl(1, termios.TIOCSCTTY, 0),  # as a shell does
            )
        os.close(theirs)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._mine], [], [], 0.1)[0]:
                self.shown += os.read(self._mine, 65536).decode()

    def type(self, text: str) -> None:
        self.shown = ""
        os.write(self._mine, text.encode())

    def end(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._mine)


def stop_in_model(directory: Path) -> None:
    model = directory / "pumps" / "model.py"
    model.write_text(model.read_text().replace("    return [2", "    breakpoint()\n    return [2"))


def test_run_stops_at_breakpoints_of_every_hook(pumps: Path) -> None:
    """On the main thread and without a time-out, so that a debugger can take its time."""
    stop_in_model(pumps)
    with Typing(pumps, "--input", "pumps/samples.jsonl") as run:
        for _ in range(3):
            run.wait_for("(Pdb) ")
            run.type("p len(values)\n")
            run.wait_for("20")
            run.type("c\n")
        run.wait_for("60 fetched, 60 sunk")
        assert run.end() == exit_codes.OK


def test_to_quit_the_debugger_ends_the_run(pumps: Path) -> None:
    stop_in_model(pumps)
    with Typing(pumps, "--input", "pumps/samples.jsonl") as run:
        run.wait_for("(Pdb) ")
        run.type("q\n")
        run.wait_for("Interrupted.")
        assert run.end() == exit_codes.INTERRUPTED


def test_the_debugger_has_the_terminal_while_messages_come_through_stdin(pumps: Path) -> None:
    stop_in_model(pumps)
    messages = pumps / "one.jsonl"
    messages.write_text('{"sensor": "a", "value": 21, "time": 0}\n')
    with Typing(pumps, "--input", "-", stdin=messages) as run:
        run.wait_for("(Pdb) ")
        run.type("p values\n")
        run.wait_for("[21.0]")
        run.type("c\n")
        run.wait_for("1 fetched, 1 sunk")
        assert run.end() == exit_codes.OK


def test_ctrl_c_ends_a_run_that_waits_for_stdin(pumps: Path) -> None:
    with Typing(pumps, "--input", "-") as run:
        run.type('{"sensor": "a", "value": 1, "time": 0}\n')
        run.wait_for("prediction")
        run.type("\x03")
        run.wait_for("Interrupted.")
        assert run.end() == exit_codes.INTERRUPTED
        assert "Fatal" not in run.shown


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--task", "nope"], "'nope' (it has: pumps_1)"),
        (["--input", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--input", "pumps/samples.jsonl", "--form", "message"], "line 1"),
    ],
)
def test_a_mistake_in_a_run_is_told(pumps: Path, words: list[str], text: str) -> None:
    printed = sinfer(pumps, "run", "--product", "pumps", *words, code=exit_codes.CONFIGURATION)
    assert text in printed


def test_several_tasks_ask_for_a_choice(pumps: Path) -> None:
    tasks = pumps / "pumps" / "tasks.yaml"
    tasks.write_text(tasks.read_text() + tasks.read_text().replace("pumps_1", "pumps_2"))
    printed = sinfer(pumps, "run", "--product", "pumps", code=exit_codes.CONFIGURATION)
    assert "--task ID (pumps_1, pumps_2)" in printed


class Up:
    """`sinfer up` in the background."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "up.log"
        self.process = ChildProcess(
            "up",
            [program("sinfer"), "up", "--product", "pumps"],
            log=self.log,
            env=ENVIRONMENT,
            cwd=directory,
        )

    def wait_for(self, condition: Callable[[str], bool], what: str) -> None:
        def holds() -> bool:
            log = self.log.read_text()
            assert self.process.is_running or condition(log), log
            return condition(log)

        until_true(holds, lambda: f"waited for {what}:\n{self.log.read_text()}", 2 * PATIENCE_S)

    @property
    def variables(self) -> dict[str, str]:
        """What another terminal has after the line that it tells people to type there."""
        printed = subprocess.run(
            ["bash", "-ec", f"{source_line(self.log.read_text())}\nenv -0"],
            env={"PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(pair.split("=", 1) for pair in printed.stdout.split("\0") if "=" in pair)


@pytest.fixture
def up(pumps: Path) -> Iterator[Up]:
    running = Up(pumps)
    running.process.start()
    yield running
    running.process.stop(30)


def test_up_keeps_a_product_running_and_follows_its_code_and_its_tasks(up: Up) -> None:
    results = up.directory / "pumps.jsonl"
    up.wait_for(lambda log: "worker@" in log and ": ingesting; " in log, "the processes")
    publish = ("publish", "--product", "pumps", "--input", "pumps/samples.jsonl")

    def published(*words: str) -> None:
        sinfer(up.directory, *publish, *words, more=up.variables)

    def has(lines: int) -> Callable[[str], bool]:
        return lambda _: results.exists() and len(results.read_text().splitlines()) == lines

    variables = up.variables
    assert variables["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert variables["SINFER_PRODUCTS"] == "pumps"
    assert all(value for name, value in variables.items() if name.startswith("SINFER_"))
    published("--rate", "200")
    up.wait_for(has(60), "60 results")
    up.wait_for(lambda log: log.count("\nwindow  | pumps_1/") >= 3, "a line for each window")
    window = r"^window  \| pumps_1/\S+: \d+ messages?, closed by time, model \d+ ms, sinks \d+ ms$"
    assert re.search(window, up.log.read_text(), re.MULTILINE)
    nonsense = up.directory / "nonsense"
    nonsense.write_text("nonsense\n")
    sinfer(up.directory, "publish", "--input", str(nonsense), more=variables)
    reason = re.compile(r"^error   \| pumps_1: message 61 given up: preprocess: ", re.MULTILINE)
    up.wait_for(lambda log: reason.search(log) is not None, "the reason of the dead letter")
    assert re.search(r"^ingest  \| .*: ingesting; ", up.log.read_text(), re.MULTILINE)

    model = up.directory / "pumps" / "model.py"
    model.write_text(model.read_text().replace("2 * value", "7 * value"))
    up.wait_for(lambda log: log.count(" ready.") == 2, "the worker to start again")
    published("--messages", "2")
    up.wait_for(has(62), "2 more results")
    latest = [json.loads(line)["result"] for line in results.read_text().splitlines()[-2:]]
    assert sorted(result["prediction"] for result in latest) == [0.0, 7.0]

    tasks = up.directory / "pumps" / "tasks.yaml"
    tasks.write_text(
        tasks.read_text() + tasks.read_text().replace("pumps_1", "more").replace("PUMPS", "MORE")
        .replace("pumps.in", "more.in")
    )  # fmt: skip
    up.wait_for(lambda log: "pumps/more/more.in: ingesting" in log, "the new task")
    assert re.search(r"^streams \| .*: stream MORE is made", up.log.read_text(), re.MULTILINE)

    pipeline = up.directory / "pumps" / "pipeline.py"
    good = pipeline.read_text()
    pipeline.write_text(good + "def broken(\n")
    up.wait_for(
        lambda log: "error   | ingest has ended" in log and "SyntaxError" in log, "the mistake"
    )
    pipeline.write_text(good)
    up.wait_for(lambda log: log.count(" ready.") == 3, "the worker to start once more")

    directory = Path(re.findall(r"files are in (\S+)", up.log.read_text())[0])
    up.process.signal(signal.SIGINT)
    assert up.process.wait(30) == 0
    assert not directory.exists()
