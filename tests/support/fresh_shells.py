"""A reader with nothing but a checkout: each block of a document is typed into a new terminal."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sinfer.embedded.child_process import ChildProcess, free_port
from sinfer.embedded.services import BEAT_READY, INGEST_READY, WORKER_READY, Readiness, logged
from tests.support.documents import ROOT
from tests.support.until import until_true

PATIENCE_S = 90.0

_PROGRAMS = {
    "sinfer": "from sinfer.cli import main\nmain()\n",
    "celery": "from celery.__main__ import main\nmain()\n",
    "pytest": "import sys\nimport pytest\nsys.exit(pytest.console_main())\n",
}

_ENDLESS: dict[str, Readiness] = {
    "python -m sinfer.embedded": logged("ready; Ctrl-C ends them"),
    "sinfer up": logged(" ready."),
    "sinfer ingest": INGEST_READY,
    "celery -A sinfer.tasks worker": WORKER_READY,
    "celery -A beat_schedule beat": BEAT_READY,
    "celery -A sinfer.tasks flower": logged("Visit me"),
}
"""Commands that go on until Ctrl-C, and when they are ready."""


class FreshShells:
    """Opens terminals, at home, with an environment that holds nothing of this one.

    Args:
        home: the reader's home directory.
        ending: ends what still runs.

    Attributes:
        checkout: where the reader's clone is.
        variables: what the reader's own environment has besides.
    """

    def __init__(self, home: Path, ending: ExitStack) -> None:
        self.home = home
        self.checkout = home / "sinfer"
        self.variables: dict[str, str] = {}
        self.running: list[ChildProcess] = []
        self._ending = ending
        self._model_port = free_port()

    @property
    def environment(self) -> dict[str, str]:
        """What a login gives: no virtual environment, no settings."""
        return {
            "HOME": str(self.home),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "PYTHON": getattr(sys, "_base_executable", sys.executable),
            # HOST stands for where the repository is, which is here.
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
            "GIT_CONFIG_VALUE_0": "https://HOST/sinfer.git",
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
            **self.variables,
        }

    def type(self, block: str) -> str:
        """Type a block into a new terminal.

        Returns:
            What it printed, until its end or until the command that goes on forever is ready.
        """
        last = block.rstrip().splitlines()[-1]
        for start, ready in _ENDLESS.items():
            if last.startswith(start):
                return self._start(block, ready)
        finished = subprocess.run(
            ["bash", "-ec", block],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=10 * PATIENCE_S,
        )
        assert finished.returncode == 0, f"{block}\n{finished.stdout}"
        return finished.stdout

    def _start(self, block: str, ready: Readiness) -> str:
        block = block.replace("--port=5555", f"--port={free_port()}")
        block = block.replace("sinfer.embedded", f"sinfer.embedded --model-port {self._model_port}")
        name = f"terminal-{len(self.running)}"
        process = ChildProcess(
            name,
            ["bash", "-ec", block],
            log=self.home / f"{name}.log",
            env=self.environment,
            cwd=self.home,
        )
        self._ending.callback(_close, process)
        process.start()
        self.running.append(process)
        wait_for(lambda: ready(process), process)
        return process.log.read_text()

    def use_other_ports(self) -> None:
        """Have the servers on free ports, as a reader does whose usual ones are taken."""
        self.variables["EXAMPLE_MODEL_URL"] = f"http://127.0.0.1:{self._model_port}"
        (self.checkout / ".env").write_text(
            f"SINFER_NATS_SERVERS=nats://127.0.0.1:{free_port()}\n"
            f"SINFER_REDIS_URL=redis://127.0.0.1:{free_port()}/0\n"
        )

    def bring_up_to_date(self) -> None:
        """Give the clone what is not committed yet, but nothing that git does not know."""
        known = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for name in filter(None, known.stdout.split("\0")):
            if (ROOT / name).exists():
                (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, self.checkout / name)

    def stand_in_for_setup(self) -> None:
        """Make what ``make setup`` makes, of the packages that are installed here."""
        place = self.checkout / ".venv"
        venv.create(place, symlinks=True)
        packages = next(place.glob("lib/python*/site-packages"))
        (packages / "stand-in.pth").write_text(
            f"{self.checkout}\n{sysconfig.get_path('purelib')}\n"
        )
        programs = Path(sys.executable).parent
        for path in programs.iterdir():
            if path.name.startswith(("nats", "valkey")):
                (place / "bin" / path.name).symlink_to(path)
        (place / "programs").mkdir()
        for name, text in _PROGRAMS.items():
            (place / "programs" / name).write_text(text)
            program = place / "bin" / name
            words = shlex.join([f"{place}/bin/python", f"{place}/programs/{name}"])
            program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')  # "#!" takes no spaces
            program.chmod(0o755)
        (place / ".ready").touch()


def _close(process: ChildProcess) -> None:
    """As when a terminal is closed: all that runs in it is told to end."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)
    process.kill()


def wait_for(condition: Callable[[], bool], *processes: ChildProcess) -> None:
    """Return once the condition holds; fails when a process ends, or after a long time."""

    def holds() -> bool:
        for process in processes:
            assert process.is_running, process.tail()
        return condition()

    until_true(holds, lambda: [process.tail() for process in processes], PATIENCE_S)


@contextmanager
def fresh_shells(home: Path) -> Iterator[FreshShells]:
    """A reader, whose processes end with the block."""
    with ExitStack() as ending:
        yield FreshShells(home, ending)


def source_line(printed: str) -> str:
    """The line that `sinfer up` says to type in other terminals."""
    found = re.search(r"source (\S+/env\.sh|'.*/env\.sh')", printed)
    assert found is not None, printed
    return found[0]
