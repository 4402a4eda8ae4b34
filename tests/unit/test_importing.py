"""Importing a module changes nothing: no settings are read, nothing is made, patched or started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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

IMPORT_EACH = """
import gc, importlib, json, logging, os, signal, sys, threading, time, warnings

def state():
    modules = sys.modules
    found = {
        "environment": dict(os.environ),
        "sys.path": list(sys.path),
        "hooks": [sys.excepthook, threading.excepthook, sys.unraisablehook, sys.breakpointhook],
        "signals": [signal.getsignal(n) for n in signal.valid_signals()],
        "root logger": [logging.root.level, *logging.root.handlers, *logging.root.filters],
        "threads": threading.active_count(),
        "frozen objects": gc.get_freeze_count(),
        "files": sorted(os.listdir()),
    }
    if "sinfer.settings" in modules:
        found["settings"] = modules["sinfer.settings"].settings.cache_info().currsize
    if "kombu.transport" in modules:
        found["transports"] = dict(modules["kombu.transport"].TRANSPORT_ALIASES)
    if "bdb" in modules:
        found["debugger"] = modules["bdb"].BdbQuit
    if "celery._state" in modules:
        state = modules["celery._state"]
        found["applications"] = [state.default_app, list(state._get_active_apps())]
    for name in ("asyncio.events", "subprocess", "socket", "ssl"):
        if name in modules:
            found[name] = {k: v for k, v in vars(modules[name]).items() if callable(v)}
    return found

changed = []
for name in json.load(sys.stdin):
    before = state()
    importlib.import_module(name)
    after = state()
    changed += [(name, what) for what in before if before[what] != after[what]]
    if after.get("settings") or after.get("applications", [None, []]) != [None, []]:
        changed.append((name, "reads settings, or makes an application"))
print(json.dumps(changed))
"""


def module_names() -> list[str]:
    paths = [*sorted((ROOT / "sinfer").rglob("*.py")), ROOT / "beat_schedule.py"]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name.removesuffix(".__init__") for name in names]


def run(program: str, given: str, folder: Path) -> str:
    """What a program prints in a fresh interpreter whose settings are hostile."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SINFER_")}
    done = subprocess.run(
        [sys.executable, "-c", program], input=given, text=True, capture_output=True, check=False,
        cwd=folder, env={**env, **HOSTILE},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_importing_a_module_changes_nothing(tmp_path: Path) -> None:
    names = [name for name in module_names() if name not in MAKES_AN_APPLICATION | PROGRAMS]
    assert len(names) > 250
    assert json.loads(run(IMPORT_EACH, json.dumps(names), tmp_path)) == []


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
