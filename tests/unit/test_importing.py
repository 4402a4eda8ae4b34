"""Importing a module changes nothing: no settings are read, nothing is made, patched or started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from sinfer import exit_codes

ROOT = Path(__file__).parents[2]

MAKES_AN_APPLICATION = {"sinfer.tasks.celery", "beat_schedule"}
"""The entry points of Celery's programs."""

PROGRAMS = {"sinfer.__main__", "sinfer.embedded.__main__"}

HOSTILE = {
    "SINFER_TICK": "abc",
    "SINFER_REDIS_URL": "nonsense",
    "SINFER_NO_SUCH_SETTING": "1",
    "SINFER_PRODUCTS": "no_such_module",
    "CELERY_BROKER_URL": "redis://elsewhere:1/0",
}
"""Settings with which nothing could run."""

IMPORT_EACH = '''
"""Imports the modules of each room, in a process that has other people's libraries alone."""
import asyncio, bdb, contextlib, decimal, faulthandler, gc, importlib, json, locale, logging, os
import signal, socket, ssl, subprocess, sys, threading, urllib.request, warnings

import billiard, celery.app.amqp, celery.beat, celery.signals, celery._state, httpx, kombu.transport
import kombu.connection, kombu.transport.pyamqp, kombu.transport.redis, kombu.transport.virtual
import msgspec, nats.aio.client, nats.js.client, numpy, pydantic, redis.asyncio
from types import FunctionType

SIGNALS = [s for s in vars(celery.signals).values() if hasattr(s, "receivers")]
THEIRS = [
    name for name in sys.modules
    if name.split(".")[0] in {
        "asyncio", "bdb", "billiard", "celery", "httpx", "json", "kombu", "logging", "msgspec",
        "nats", "pydantic", "redis", "socket", "ssl", "subprocess", "threading",
    }
]
THEIR_LOGGERS = [n for n in logging.root.manager.loggerDict]

def code():
    """Each function and class of other people's modules, and each method of their classes."""
    found = {}
    for name in THEIRS:
        for key, value in list(vars(sys.modules[name]).items()):
            kind = type(value)  # a proxy of Celery would make an application when it is asked
            if kind is FunctionType or issubclass(kind, type):
                found[name, key] = id(value)
            if issubclass(kind, type) and value.__module__ == name:
                for attribute, part in list(vars(value).items()):
                    if type(part) in (FunctionType, classmethod, staticmethod, property):
                        found[name, key, attribute] = id(part)
    return found

def state():
    return {
        "environment": dict(os.environ),
        "sys.path": list(sys.path),
        "finders": [*map(id, sys.meta_path), *map(id, sys.path_hooks)],
        "hooks": [sys.excepthook, threading.excepthook, sys.unraisablehook, sys.breakpointhook],
        "signals": [signal.getsignal(n) for n in signal.valid_signals()],
        "root logger": [logging.root.level, *logging.root.handlers, *logging.root.filters],
        "filters of loggers": {
            name: logger.filters[:]
            for name, logger in logging.root.manager.loggerDict.items()
            if getattr(logger, "filters", None)
        },
        "handlers and levels of loggers": {
            name: [logger.level, *map(str, logger.handlers)]
            for name in THEIR_LOGGERS for logger in [logging.getLogger(name)]
        },
        "logging": [logging.getLoggerClass(), logging.getLogRecordFactory(), logging.lastResort],
        "event loops": id(asyncio.events._event_loop_policy),
        "locale": locale.setlocale(locale.LC_ALL),
        "time-out of sockets": socket.getdefaulttimeout(),
        "openers": urllib.request._opener,
        "faults": faulthandler.is_enabled(),
        "threads": threading.active_count(),
        "frozen objects": gc.get_freeze_count(),
        "collector": [gc.isenabled(), *gc.get_threshold()],
        "recursion": sys.getrecursionlimit(),
        "folder": os.getcwd(),
        "files": sorted(os.listdir()),
        "transports": dict(kombu.transport.TRANSPORT_ALIASES),
        "applications": [celery._state.default_app, *celery._state._get_active_apps()],
        "receivers": [[id(s), *map(str, s.receivers or ())] for s in SIGNALS],
    }

def changes(names):
    """What importing one module after the other changes."""
    theirs = code()
    found = []
    before = state()
    for name in names:
        importlib.import_module(name)
        after = state()
        found += [(name, what) for what in before if before[what] != after[what]]
        before = after
    found += [("", key) for key, value in code().items() if theirs.get(key, value) != value]
    found += [("", str(f)) for f in warnings.filters if "sinfer" in str(f)]
    settings = sys.modules.get("sinfer.settings")
    if settings is not None and settings.settings.cache_info().currsize:
        found.append(("", "reads settings"))
    return found

answers = {}
for room, names in json.load(sys.stdin).items():
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = changes(names)
        except BaseException as error:
            told = [repr(error)]
        with open(writes, "w") as pipe:
            json.dump(told, pipe, default=str)
        os._exit(0)
    os.close(writes)
    with open(reads, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    answers[room] = json.loads(answer or b'["ended the process"]')
print(json.dumps(answers))
'''


def module_names() -> list[str]:
    paths = [*sorted((ROOT / "sinfer").rglob("*.py")), ROOT / "beat_schedule.py"]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def run(
    program: str, given: str, folder: Path, settings: Mapping[str, str] = MappingProxyType(HOSTILE)
) -> str:
    """What a program prints in a fresh interpreter; its settings are hostile if none are given."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SINFER_")}
    done = subprocess.run(
        [sys.executable, "-c", program], input=given, text=True, capture_output=True, check=False,
        cwd=folder, env={**env, **settings},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_a_module_changes_nothing(tmp_path: Path) -> None:
    rooms: dict[str, list[str]] = {}
    for name in module_names():
        if name not in MAKES_AN_APPLICATION | PROGRAMS:
            rooms.setdefault(".".join(name.split(".")[:2]), []).append(name)
    assert sum(map(len, rooms.values())) > 250
    found = json.loads(run(IMPORT_EACH, json.dumps(rooms), tmp_path))
    assert found == {room: [] for room in rooms}


@pytest.mark.parametrize("module", ["sinfer.testing", "sinfer.local"])
def test_what_runs_a_task_in_one_process_needs_neither_celery_nor_redis(
    module: str, tmp_path: Path
) -> None:
    names = [name for name in module_names() if name == module or name.startswith(f"{module}.")]
    program = """
import importlib, json, sys
for name in json.load(sys.stdin):
    importlib.import_module(name)
unwanted = {"celery", "kombu", "billiard", "redis", "amqp", "vine"}
print(json.dumps(sorted(unwanted & sys.modules.keys())))
"""
    assert json.loads(run(program, json.dumps(names), tmp_path)) == []


@pytest.mark.parametrize("module", sorted(MAKES_AN_APPLICATION))
def test_entry_points_tell_bad_settings_in_a_line(module: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], text=True, capture_output=True, check=False,
        cwd=tmp_path, env={**os.environ, **HOSTILE, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == exit_codes.CONFIGURATION
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr


def test_sinfer_run_and_tests_of_products_work_without_celery_and_redis(tmp_path: Path) -> None:
    (tmp_path / "messages.jsonl").write_text("\n".join(f'{{"n": {n}}}' for n in range(4)))
    (tmp_path / "mine.py").write_text(
        """
import json

from sinfer import InferPipeline, InferTaskConfig, Product, Result
from sinfer.products.managers import StaticTaskManager

class Sums(InferPipeline):
    results_per = "window"
    def preprocess(self, message):
        return json.loads(message.data)["n"]
    def build_request(self, window):
        return list(window)
    def build_results(self, window, response):
        return [Result(response)]

task = InferTaskConfig.model_validate({
    "id": "t", "source": {"stream": "S"}, "window": {"type": "count", "count": 2},
    "inference": {"type": "python", "call": "mine:model"}, "sinks": [{"type": "log"}],
})
def model(request):
    return sum(request)
product = Product("mine", tasks=StaticTaskManager([task]), pipeline=Sums)
"""
    )
    program = """
import json, sys
sys.path.insert(0, "")
unwanted = {"celery", "kombu", "billiard", "redis", "amqp", "vine"}
sys.modules.update(dict.fromkeys(unwanted))  # whoever imports one now fails
from sinfer.testing import TaskTester
from mine import product
with TaskTester(product) as tester:
    tester.feed({"n": 1}, {"n": 2})
    assert tester.results == [3], (tester.results, tester.dead_letters)
from click.testing import CliRunner
from sinfer.cli import main
done = CliRunner().invoke(main, ["run", "--product", "mine", "--input", "messages.jsonl"])
print(json.dumps([done.exit_code, done.output]))
"""
    code, output = json.loads(run(program, "", tmp_path, settings={}))
    assert code == 0, output
    assert "result    1" in output
    assert "result    5" in output
