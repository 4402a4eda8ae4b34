"""Samples functions with py-spy and counts Redis' commands while a system is timed."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from redis.asyncio import Redis

from sinfer.embedded.backing import BackingServers
from sinfer.embedded.services import Service, program
from sinfer.errors import ConfigError, UnavailableError
from sinfer.store.lua import SCRIPTS, script_texts

_RATE = 250
"""Samples a second."""
_SLOWLOG = 1_000
"""Scripts that are looked at in each look at Redis' slow log."""
_LOGGED_US = 20
"""Scripts take longer; what they call does not, and would be costly to log."""
_LOOK_S = 0.5
_WATCHED = ("ingest", "worker")
_WAITING = (
    "EpollSelector.select ", "Condition.wait ", "Connection._recv ", "Popen.poll ", "_wait ",
    "Event.wait ", "Queue.get ", "_worker ", "SignalHandlers", "select ", "Thread.join ",
)  # fmt: skip
"""Functions in which a thread waits, most of the time at least: they say nothing."""
_AROUND = (
    "(threading.py", "(asyncio/", "(click/", "(celery", "(billiard/", "(<frozen runpy", "(sinfer:",
)  # fmt: skip
"""Files of functions that are around everything: what they call takes all the time, of course."""

Ranking = list[tuple[str, float]]
"""Functions and their shares of the samples, the largest first."""


@dataclass(frozen=True, slots=True)
class Process:
    """What a process did.

    Attributes:
        cpu_us: processor time.
        own: functions by the time that they themselves took.
        cumulative: functions by the time that they and what they called took.
    """

    cpu_us: float
    own: Ranking
    cumulative: Ranking


@dataclass(slots=True)
class Profile:
    """What was found.

    Attributes:
        processes: by name.
        commands: calls and microseconds of each Redis command.
        scripts: the same of each script, from a sample of them.
    """

    processes: dict[str, Process] = field(default_factory=dict)
    commands: dict[str, tuple[float, float]] = field(default_factory=dict)
    scripts: dict[str, tuple[float, float]] = field(default_factory=dict)


class Profiler:
    """Watches one run.

    Raises:
        ConfigError: py-spy is not installed.

    Attributes:
        found: what was found, after the run.
    """

    def __init__(self) -> None:
        self.found = Profile()
        if not Path(program("py-spy")).exists():
            raise ConfigError("py-spy is not installed; make bench does that")

    @asynccontextmanager
    async def watch(self, servers: BackingServers, services: list[Service]) -> AsyncIterator[None]:
        """Sample while the context lasts.

        Raises:
            UnavailableError: py-spy may not look into the processes.
        """
        pids = {
            name: list(_working(service))
            for service in services
            if (name := service.name) in _WATCHED
        }
        files = {
            pid: servers.directory / f"profile-{pid}" for found in pids.values() for pid in found
        }
        redis = Redis.from_url(servers.redis.url, decode_responses=False)
        scripts: Counter[str] = Counter()
        spent: Counter[str] = Counter()
        names = _script_names()
        await redis.config_resetstat()
        await redis.config_set("slowlog-max-len", _SLOWLOG)
        await redis.config_set("slowlog-log-slower-than", _LOGGED_US)
        looking = asyncio.create_task(_look(redis, names, scripts, spent))
        samplers = [_sample(pid, path) for pid, path in files.items()]
        before = {name: _cpu_us(found) for name, found in pids.items()}
        try:
            yield
        finally:
            used = {name: _cpu_us(found) - before[name] for name, found in pids.items()}
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            commands = await redis.info("commandstats")
            await redis.aclose()
            for sampler in samplers:
                sampler.send_signal(signal.SIGINT)
                await asyncio.to_thread(sampler.wait, 30)
        for name, found in pids.items():
            stacks = [line for pid in found for line in _stacks(files[pid])]
            self.found.processes[name] = Process(used[name], *_rank(stacks))
        for name, stats in commands.items():
            key = name.removeprefix("cmdstat_")
            self.found.commands[key] = (stats["calls"], stats["usec"])
        self._scale(scripts, spent)

    def _scale(self, scripts: Counter[str], spent: Counter[str]) -> None:
        """Make the sample of scripts as many as there were."""
        calls = self.found.commands.get("evalsha", (0.0, 0.0))[0]
        factor = calls / max(1, scripts.total())
        self.found.scripts = {
            name: (count * factor, spent[name] * factor) for name, count in scripts.items()
        }


def _working(service: Service) -> Iterator[int]:
    """The processes that do the work: a prefork worker's children, else the process itself."""
    parent = psutil.Process(service.process.pid)
    yield from [child.pid for child in parent.children()] or [parent.pid]


def _cpu_us(pids: list[int]) -> float:
    return 1e6 * sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids)


def _sample(pid: int, path: Path) -> subprocess.Popen[bytes]:
    command = [
        program("py-spy"), "record", "--pid", str(pid), "--format", "raw", "--function",
        "--rate", str(_RATE), "--duration", "3600", "--output", str(path),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _stacks(path: Path) -> list[str]:
    if not path.exists():
        raise UnavailableError("py-spy wrote nothing; may this user trace processes (ptrace)?")
    return path.read_text().splitlines()


def _script_names() -> dict[str, str]:
    """The name of each script by its digest, which is what Redis is called with."""
    return {
        hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest(): name
        for name, source in SCRIPTS.items()
        for text in script_texts(source)
    }


async def _look(
    redis: Redis, names: dict[str, str], scripts: Counter[str], spent: Counter[str]
) -> None:
    """Read the slow log, in which the scripts are, again and again."""
    while True:
        await redis.slowlog_reset()
        await asyncio.sleep(_LOOK_S)
        entries: list[dict[str, Any]] = await redis.slowlog_get(_SLOWLOG)
        for entry in entries:
            words = entry["command"].split()
            if words and words[0].upper() == b"EVALSHA":
                name = names.get(words[1].decode(), "another")
                scripts[name] += 1
                spent[name] += entry["duration"]


def _rank(stacks: list[str]) -> tuple[Ranking, Ranking]:
    """Functions by own and by cumulative time, from lines ``outer;…;inner count``.

    Where a thread waits is left out; py-spy cannot tell everywhere whether it runs.
    """
    own: Counter[str] = Counter()
    cumulative: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if frames[-1].startswith(_WAITING):
            continue
        own[frames[-1]] += int(count)
        for frame in set(frames):
            if not any(place in frame for place in _AROUND):
                cumulative[frame] += int(count)
    total = max(1, own.total())
    return tuple(  # type: ignore[return-value]
        [(name, count / total) for name, count in counter.most_common()]
        for counter in (own, cumulative)
    )
