"""Documents whose code and commands are run: the README and the guides."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import (
    BEAT_READY,
    INGEST_READY,
    WORKER_READY,
    Place,
    Readiness,
    Service,
    answers,
    logged,
    program,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0


class Document:
    """A Markdown file, or one section of it."""

    def __init__(self, path: Path, section: str | None = None) -> None:
        self.path = path
        self.text = path.read_text()
        if section is not None:
            self.text = self.text.split(f"\n## {section}\n")[1].split("\n## ")[0]

    def blocks(self, language: str) -> list[str]:
        """The fenced blocks of a language."""
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    def terminals(self) -> list[str]:
        """What a reader types into each terminal: the blocks of the shell."""
        return self.blocks("sh")

    def write_files(self, directory: Path, language: str) -> None:
        """Save the blocks that begin with the name of a file, ``# name``."""
        for block in self.blocks(language):
            name = re.match(r"# ([\w./]+)\n", block)
            assert name is not None, block
            path = directory / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block)

    def check_links(self) -> None:
        """Make sure that links lead to files and headings that exist."""
        for target in re.findall(r"\]\(([^)]+)\)", self.text):
            if "://" in target:
                continue
            file, _, heading = target.partition("#")
            path = self.path.parent / file if file else self.path
            assert path.exists(), target
            if heading:
                headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                assert heading in {_anchor(text) for text in headings}, target


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-")


class Terminal:
    """Runs a document's commands: those that go on forever in the background, others to the end.

    Args:
        directory: where they run, until ``cd`` leads elsewhere.
        ending: stops them.

    Attributes:
        environment: of the commands.
        endless: commands that go on forever, by how they begin, and when they are ready.
        model_url: where the model server of ``python -m sinfer.embedded`` is.
    """

    def __init__(self, directory: Path, ending: ExitStack) -> None:
        self.directory = directory
        self._ending = ending
        self._model_port = free_port()
        self._flower_port = free_port()
        self.model_url = f"http://127.0.0.1:{self._model_port}"
        self.environment = {
            **os.environ,
            "SINFER_NATS_SERVERS": f"nats://127.0.0.1:{free_port()}",
            "SINFER_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
            "EXAMPLE_MODEL_URL": self.model_url,
            "PATH": f"{Path(program('python')).parent}:{os.environ['PATH']}",
        }
        self._exported: dict[str, str] = {}
        self.endless: dict[str, Readiness] = {
            "python -m sinfer.embedded": logged("ready; Ctrl-C ends them"),
            "sinfer ingest": INGEST_READY,
            "celery -A sinfer.tasks worker": WORKER_READY,
            "celery -A beat_schedule beat": BEAT_READY,
            "celery -A sinfer.tasks flower": answers(
                f"http://127.0.0.1:{self._flower_port}/healthcheck"
            ),
        }

    def type_each(self, blocks: Iterable[str], leave_out: str = "pip ") -> None:
        """Do what a user does who types each block into a new terminal.

        Args:
            blocks: of lines.
            leave_out: how lines begin that are not typed.
        """
        for block in blocks:
            self._exported.clear()
            for line in block.splitlines():
                if line and not line.startswith(leave_out):
                    self.type(line)

    def type(self, line: str) -> None:
        """Do what a user does who types this line."""
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            self._exported[name] = value
            return
        if line.startswith("cd "):
            self.directory /= line.removeprefix("cd ")
            return
        for start, ready in self.endless.items():
            if line.startswith(start):
                self._start(line, ready)
                return
        words = shlex.split(line)
        subprocess.run(
            [program(words[0]), *words[1:]],
            cwd=self.directory,
            env={**self.environment, **self._exported},
            timeout=PATIENCE_S,
            check=True,
        )

    def _start(self, line: str, ready: Readiness) -> None:
        line = line.replace("--port=5555", f"--port={self._flower_port}")
        if line.endswith("sinfer.embedded"):
            line += f" --model-port {self._model_port}"
        name = f"process-{len(list(self.directory.glob('process-*')))}"
        environment = {**self.environment, **self._exported}
        place = Place(self.directory, environment, cwd=self.directory)
        service = Service(name, shlex.split(line), ready, place)
        self._ending.callback(service.stop)
        service.start()
        service.wait_until_ready()
