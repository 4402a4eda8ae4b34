"""Clean environments outside the checkout, what is built for them, and lines of Dockerfiles."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from sinfer.embedded.services import Place, Readiness, Service

ROOT = Path(__file__).parents[2]

_PATIENCE_S = 240.0
_LEFT_OUT = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist"
)  # what a fresh checkout has not


class Installation:
    """A virtual environment, and processes that see nothing but it.

    Args:
        directory: takes the environment, and is where its programs run.
        variables: further environment variables of its programs.
    """

    def __init__(self, directory: Path, variables: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.prefix = directory / "venv"
        self.cwd = directory / "elsewhere"
        self.cwd.mkdir(parents=True)
        self.variables = dict(variables or {})

    @property
    def environment(self) -> dict[str, str]:
        """Without what leads Python to the checkout or to the environment of the tests."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("SINFER_", "PYTHON", "VIRTUAL_ENV", "EXAMPLE_", "SOE_"))
        }
        path = f"{self.prefix / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin"
        return {**kept, "PATH": path, **self.variables}

    def make(self, *requirements: str) -> None:
        """Make it, with these requirements at the pinned versions."""
        subprocess.run([sys.executable, "-m", "venv", str(self.prefix)], check=True)
        constraints = str(ROOT / "constraints.txt")
        self.run("python", "-m", "pip", "install", "--quiet", "--constraint", constraints,
                 *requirements)  # fmt: skip

    def program(self, name: str) -> str:
        return str(self.prefix / "bin" / name)

    def run(self, *command: str, code: int = 0, cwd: Path | None = None) -> str:
        """Run one of its programs to the end, and return its output.

        Args:
            code: the exit code that it must have.
            cwd: where; a directory with nothing of the checkout by default.
        """
        done = subprocess.run(
            [self.program(command[0]), *command[1:]],
            cwd=cwd or self.cwd,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, f"{shlex.join(command)}: {done.returncode}\n{done.stdout}"
        assert "Traceback" not in done.stdout, f"{shlex.join(command)}\n{done.stdout}"
        return done.stdout

    def service(self, name: str, command: Sequence[str], ready: Readiness) -> Service:
        """One of its programs that stays."""
        place = Place(self.cwd, self.environment, cwd=self.cwd)
        return Service(name, [self.program(command[0]), *command[1:]], ready, place)


def build(directory: Path) -> Path:
    """Build a source distribution of the checkout, and a wheel from that.

    Returns:
        Where they are.
    """
    checkout = directory / "checkout"
    shutil.copytree(ROOT, checkout, ignore=_LEFT_OUT)
    dist = directory / "dist"
    command = [sys.executable, "-m", "build", "--outdir", str(dist), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return dist


def packed_files() -> set[str]:
    """All files of the package, by their path in the checkout."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / "sinfer").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


class Dockerfile:
    """A Dockerfile, whose stages that install are followed without Docker.

    Args:
        context: takes what the image copies.
        prefix: stands for the environment that the image has in ``/opt/sinfer``.
        root: where the Dockerfile is.
    """

    def __init__(self, context: Path, prefix: Path, root: Path = ROOT) -> None:
        self._context = context
        self._prefix = prefix
        self._root = root
        text = (root / "Dockerfile").read_text()
        self._lines = re.sub(r"\\\n\s*", "", text).splitlines()
        context.mkdir(parents=True)

    def stage(self, name: str = "") -> Iterator[tuple[str, str]]:
        """The instructions of a stage, without those of the stages that it begins with."""
        current = ""
        for line in self._lines:
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                current = rest.partition(" AS ")[2]
            elif current == name and word and not word.startswith("#"):
                yield word, rest

    def follow(self, name: str, environment: Mapping[str, str]) -> list[str]:
        """Copy and run what a stage copies and runs; the commands that were run are returned."""
        ran = []
        for word, rest in self.stage(name):
            if word == "COPY":
                *sources, target = rest.split()
                for source in sources:
                    self._copy(source, target)
            elif word == "RUN":
                command = rest.replace("/opt/sinfer", str(self._prefix))
                command = command.replace(" /src/", f" {self._context}/src/")
                command = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", command)
                done = subprocess.run(
                    ["sh", "-ec", command], cwd=self._context, env=dict(environment),
                    capture_output=True, text=True, timeout=_PATIENCE_S, check=False,
                )  # fmt: skip
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
                ran.append(command)
        return ran

    def command(self, name: str) -> list[str]:
        """What an image runs by default."""
        (rest,) = [rest for word, rest in self.stage(name) if word == "CMD"]
        return list(shlex.split(rest.strip("[]").replace(",", " ")))

    def _copy(self, source: str, target: str) -> None:
        ignored = self._root / ".dockerignore"
        allowed = ignored.read_text().splitlines() if ignored.exists() else [f"!{source}"]
        assert f"!{source}" in allowed, f".dockerignore keeps {source} out of the image"
        place = self._context / target.lstrip("/")
        if (self._root / source).is_dir():
            shutil.copytree(self._root / source, place, ignore=_LEFT_OUT)
        else:
            if target.endswith("/"):
                place.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._root / source, place)
