"""Hostile messages among good ones, through all of sinfer: ``python -m tests.chaos.live_fuzz``.

Each message ends once: the good ones as one result in each sink, the bad ones as dead letters with
their reason and their bytes, whatever stands beside them in a batch or a window.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import re
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nats.aio.client import Client

from sinfer.embedded.services import program
from sinfer.embedded.termination import unwinding_on_signals
from sinfer.errors import InvalidItemError
from sinfer.nats.wire import send
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.item_key import checked_key
from tests.chaos.fuzz import fuzzed_messages
from tests.support.deployment import Connections, Deployment, Task, rows
from tests.support.until import until

Fate = Literal["result", "filtered", "dead", "result or dead"]

MOST_BYTES = 8 << 20
"""The tasks' ``limits.max_message_bytes``, by default."""

_NEIGHBOUR_KEY = "good"
_TIMED = "by-time"
"""The task whose windows are cut by the time in the messages."""

_HEADERS = (
    b"NATS/1.0\r\n\r\n",
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
    b"NATS/1.0\r\nStatus: 100\r\nDescription: Idle Heartbeat\r\n\r\n",
    b"NATS/1.0\r\nStatus: 409\r\n\r\n",
    b"NATS/1.0\r\nX: a\r\nX: b\r\nx: c\r\n\r\n",
    b"NATS/1.0\r\nX:\r\nY:   \r\n\r\n",
    b"NATS/1.0\r\nX: " + b"h" * 4000 + b"\r\n\r\n",
    b"NATS/1.0\r\n\xff\xfe: \xff\x00\r\n\r\n",
    b"NATS/1.0\r\nno colon\r\n\r\n",
    b"NATS/1.0\r\n: no name\r\n\r\n",
    b"NATS/1.0\r\nX: {a}%s'\"\t\r\n\r\n",
    b"NATS/1.0\r\nKV-Operation: DEL\r\nSinfer-Error: none\r\n\r\n",
)


@dataclass
class Report:
    """What became of the messages of a run.

    Attributes:
        fuzzed: hostile messages published.
        neighbours: good ones between them.
        ends: how often messages ended in which way.
        reasons: how often messages were given up for which kind of error.
        problems: what should not be; a run is good without any.
        seconds: how long it took.
    """

    fuzzed: int = 0
    neighbours: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.fuzzed} hostile and {self.neighbours} good messages in {self.seconds:.0f} s:"
            f" {dict(self.ends)}",
            *(f"{count:8} {reason}" for reason, count in self.reasons.most_common(25)),
            *(f"PROBLEM {problem}" for problem in self.problems[:50]),
            "clean" if not self.problems else f"{len(self.problems)} problems",
        ]
        return "\n".join(lines)


def fate(data: bytes, *, timed: bool) -> Fate:
    """What has to become of a payload, by what the product of the harness does with it.

    Args:
        data: the payload.
        timed: whether the time in it counts, which is long ago, or hostile.
    """
    if len(data) > MOST_BYTES:
        return "dead"
    try:
        item = json.loads(data)
        if item["id"] < 0:
            return "filtered"
        checked_key(item.get("key", "all"), 256)
        value = float(item["id"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return "dead"
    except InvalidItemError:
        return "dead"
    if not math.isfinite(value):
        return "dead"
    if timed and item.get("time") is not None:
        return "result or dead"
    return "result" if value < 2**53 else "result or dead"  # what a model can hold is its affair


def payloads(seed: int, hostile: int) -> list[bytes]:
    """Each hostile message with a good one behind it, and some that are large."""
    chance = random.Random(seed)
    found: list[bytes] = []
    for number, bad in enumerate(fuzzed_messages(seed, hostile)):
        if number % 997 == 5:  # 10 MiB, of which only the size is wrong, or more
            pad = b"x" * (10 << 20)
            bad = chance.choice([pad, b"[" * (10 << 20), b'{"id": 3, "pad": "' + pad + b'"}'])
        good: dict[str, Any] = {"id": number, "key": _NEIGHBOUR_KEY}
        if number % 1999 == 7:
            good["pad"] = "x" * (7 << 20)
        found += [bad, json.dumps(good).encode()]
    return found


async def publish(client: Client, task: Task, seed: int, messages: list[bytes]) -> None:
    """Publish in order, some with hostile headers, and see that the stream has all of them."""
    chance = random.Random(seed)
    subject = task.subject.encode()
    lines: list[bytes] = []
    size = 0
    for data in messages:
        headers = chance.choice(_HEADERS) if chance.random() < 0.1 else b""
        verb = b"HPUB %b %d" % (subject, len(headers)) if headers else b"PUB %b" % subject
        line = b"%b %d\r\n%b%b\r\n" % (verb, len(headers) + len(data), headers, data)
        lines.append(line)
        size += len(line)
        if len(lines) >= 500 or size > 1 << 20:
            await send(client, lines)
            await client.flush()
            lines, size = [], 0
    await send(client, lines)
    await client.flush()

    async def are_stored() -> bool:
        found = (await client.jetstream().stream_info(task.id)).state
        return (found.messages, found.last_seq) == (len(messages), len(messages))

    await until(are_stored, f"all {len(messages)} messages to be in the stream", 60)


async def run(directory: Path, *, seed: int, hostile: int, patience_s: float) -> Report:
    """Publish hostile messages to two tasks, wait until all came to an end, and judge.

    Args:
        directory: takes all files.
        seed: the same seed gives the same messages.
        hostile: how many of them.
        patience_s: how long to wait for the end.
    """
    began = time.monotonic()
    report = Report()
    with Deployment(directory) as deployment:
        deployment.start_servers()
        connections = await Connections.open(deployment)
        try:
            await _run(deployment, connections, report, seed, hostile, patience_s)
        finally:
            await connections.aclose()
    report.seconds = time.monotonic() - began
    return report


async def _run(
    deployment: Deployment,
    connections: Connections,
    report: Report,
    seed: int,
    hostile: int,
    patience_s: float,
) -> None:
    by_count, by_time = Task(deployment, "by-count"), Task(deployment, _TIMED)
    contents: dict[Task, list[bytes]] = {}
    for task, share in ((by_count, hostile - hostile // 2), (by_time, hostile // 2)):
        await connections.make_streams(task)
        contents[task] = payloads(seed + len(contents), share)
        await publish(connections.nats, task, seed, contents[task])
        report.fuzzed += share
        report.neighbours += share
    services = [deployment.ingest(), deployment.worker(), deployment.beat()]
    deployment.start(*services)
    deployment.order(by_count.id, limits={"lease": "10s"})
    deployment.order(
        by_time.id,
        limits={"lease": "10s"},
        # Items that name no time have the stream's; some name one long ago, or no time at all.
        window={
            "type": "tumbling", "size": "1h", "max_count": 20, "max_wait": "1s", "time": "event",
            "idle": "500ms", "late": "dead_letter", "max_out_of_orderness": "1d",
        },
    )  # fmt: skip
    for task, messages in contents.items():
        account = await connections.settled(task, len(messages), patience_s)
        report.ends.update(
            sunk=account.sunk, dead=account.dead, filtered=account.filtered, late=account.late
        )
        await _judge(connections, task, messages, report)
    await _judge_commands(deployment, report)
    for service in services:
        service.check()
        log = service.process.log.read_text()
        if "Traceback" in log:
            report.problems.append(f"{service.name}: {log[log.index('Traceback') :][:2000]}")


async def _judge(
    connections: Connections, task: Task, messages: list[bytes], report: Report
) -> None:
    letters: dict[int, DeadLetter] = {}
    for letter in await connections.dead_letters(task):
        seq = letter.message.stream_seq
        if seq in letters:
            report.problems.append(f"{task.id} {seq}: two dead letters")
        letters[seq] = letter
        report.reasons[f"{letter.stage}: {re.sub('[0-9]+', 'N', letter.error)[:70]}"] += 1
        if letter.message.data != messages[seq - 1]:
            report.problems.append(f"{task.id} {seq}: its dead letter has other bytes")
        if letter.message.subject != task.subject:
            report.problems.append(f"{task.id} {seq}: its dead letter has another subject")
        if not letter.error or "\n" in letter.error or len(letter.error) > 500:
            report.problems.append(f"{task.id} {seq}: no reason, or no line: {letter.error!r}")
    expected: Counter[str] = Counter()
    for seq, data in enumerate(messages, 1):
        wanted = fate(data, timed=task.id == _TIMED)
        if (seq in letters and "dead" not in wanted) or (seq not in letters and wanted == "dead"):
            found = letters[seq].error if seq in letters else "no dead letter"
            report.problems.append(f"{task.id} {seq}: {wanted} expected: {found}: {data[:80]!r}")
        elif seq not in letters and "result" in wanted:
            expected[repr(json.loads(data)["id"])] += 1
    for name, found_rows in (("stream", await connections.results(task)), ("table", rows(task))):
        there = Counter(repr(row["id"]) for row in found_rows)
        if there != expected:
            report.problems.append(
                f"{task.id}: {name}: missing {list((expected - there).items())[:10]},"
                f" too many {list((there - expected).items())[:10]}"
            )
        good = [row for row in found_rows if row["key"] == _NEIGHBOUR_KEY]
        if sorted(row["id"] for row in good) != list(range(len(messages) // 2)):
            report.problems.append(f"{task.id}: {name}: not every neighbour is there once")
        if any(row["y"] != row["id"] for row in good):
            report.problems.append(f"{task.id}: {name}: a neighbour has another's result")


async def _judge_commands(deployment: Deployment, report: Report) -> None:
    """What people look at afterwards holds as well, whatever the letters contain."""
    for command in (
        ["audit"],
        ["status"],
        ["dlq", "list", "--limit", "100000"],
        ["windows", "list"],
    ):
        process = await asyncio.create_subprocess_exec(
            program("sinfer"), *command, "--json", cwd=deployment.place.cwd,
            env=dict(deployment.place.environment),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        if process.returncode != 0 or b"Traceback" in err:
            report.problems.append(f"sinfer {command}: {process.returncode}: {err[-2000:]!r}")
        else:
            json.loads(out)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.live_fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--messages", type=int, default=20_000, help="default: %(default)s")
    parser.add_argument("--keep", type=Path, help="keep all files and logs in this directory")
    options = parser.parse_args()
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    with (
        unwinding_on_signals(),
        tempfile.TemporaryDirectory(prefix="sinfer-fuzz-") as directory,
    ):
        place = options.keep or Path(directory)
        place.mkdir(parents=True, exist_ok=True)
        report = asyncio.run(run(place, seed=seed, hostile=options.messages, patience_s=900))
    print(report)
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
