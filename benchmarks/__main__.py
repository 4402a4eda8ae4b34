"""The command line of the benchmarks; ``harness/timing.py`` tells how a system is timed."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from contextlib import ExitStack
from types import FrameType

from rich.console import Console

from benchmarks.harness.json_report import as_dict
from benchmarks.harness.old_commit import checked_out, old_keyed
from benchmarks.harness.run import NAMES, run
from benchmarks.harness.tables import show
from benchmarks.scenarios.keyed_product import KEYS_VARIABLE
from sinfer.errors import SinferError

_WIDTH = 120
_QUICK_MESSAGES, _QUICK_KEYS = 1_000, 200


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Time sinfer beside other ways to do the same. Exits 1 when a result is"
        " missing, repeated or wrong; missed targets are only shown.",
    )
    parser.add_argument("--messages", type=int, default=50_000, help="default: %(default)s")
    parser.add_argument(
        "--quick", action="store_true", help="one round of few messages and keys, to see it run"
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="the median one counts (default: %(default)s)"
    )
    parser.add_argument(
        "--only", action="append", choices=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument(
        "--old", metavar="COMMIT", help="run many keys and small windows by its code as well"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=1500.0,
        metavar="SECONDS",
        help="begin no round that would end later than this (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    arguments = parser.parse_args()
    if arguments.messages < 1 or arguments.rounds < 1:
        parser.error("--messages and --rounds are at least 1")
    if arguments.quick and arguments.old:
        parser.error("--quick and --old do not go together: old code knows no fewer keys")
    if arguments.quick:
        arguments.messages, arguments.rounds = _QUICK_MESSAGES, 1
        os.environ[KEYS_VARIABLE] = str(_QUICK_KEYS)
    return arguments


def _leave(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM unwind the stack like any other end."""
    sys.exit(128 + number)


def main() -> int:
    """Run the benchmarks; returns the exit code."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _leave)
    progress = Console(stderr=True, highlight=False)
    try:
        with ExitStack() as stack:
            commit = arguments.old
            old = old_keyed(stack.enter_context(checked_out(commit))) if commit else None
            report = asyncio.run(
                run(
                    messages=arguments.messages,
                    rounds=arguments.rounds,
                    only=arguments.only or NAMES,
                    old=old,
                    limit_s=arguments.limit,
                    tell=lambda text: progress.print(f"[dim]·[/] {text}"),
                )
            )
    except SinferError as error:
        progress.print(f"Error: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps(as_dict(report), indent=2))
    else:
        console = Console(highlight=False)
        show(report, console if console.is_terminal else Console(highlight=False, width=_WIDTH))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
