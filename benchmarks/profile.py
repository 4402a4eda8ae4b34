"""Where a window's time goes, by function and by Redis command: ``python -m benchmarks.profile``.

py-spy samples the ingestor and the worker's processes while a system is timed, and Redis counts its
commands. Shares of samples become microseconds by the processor time that the process has used.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from benchmarks.harness.profiler import Profile, Profiler
from benchmarks.harness.timing import time_system
from benchmarks.scenarios.keyed_product import ITEMS, messages
from benchmarks.scenarios.workload import WINDOW, make_workload
from benchmarks.systems.catalogue import KEYED, RECOMMENDED
from sinfer.errors import SinferError

_CHOICES = {KEYED.name: (KEYED, ITEMS), RECOMMENDED.name: (RECOMMENDED, WINDOW)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument(
        "system", nargs="?", default=KEYED.name, choices=_CHOICES, help="default: %(default)s"
    )
    parser.add_argument(
        "--messages", type=int, default=50_000, help="for windows without keys (%(default)s)"
    )
    parser.add_argument("--top", type=int, default=25, help="functions a list (%(default)s)")
    return parser.parse_args()


def _show(profile: Profile, windows: int, top: int) -> None:
    for name, process in profile.processes.items():
        print(f"\n{name}: {process.cpu_us / windows:,.0f} us of processor for each window")
        for title, ranking in (
            ("own time", process.own),
            ("with what they call", process.cumulative),
        ):
            print(f"  {title}:")
            for function, share in ranking[:top]:
                spent = share * process.cpu_us / windows
                print(f"  {spent:8,.0f} us {100 * share:5.1f} %  {function}")
    print("\nRedis, commands and scripts (what scripts call is counted in both):")
    for title, found in (("command", profile.commands), ("script", profile.scripts)):
        print(f"  {title:28} a window   us each   us a window")
        for name, (calls, us) in sorted(found.items(), key=lambda item: -item[1][1]):
            print(
                f"  {name:28} {calls / windows:8.3f} {us / max(calls, 1):9.1f} {us / windows:13.1f}"
            )


async def main() -> int:
    """Profile one system; returns the exit code."""
    arguments = _arguments()
    system, items = _CHOICES[arguments.system]
    count = messages() if system is KEYED else arguments.messages
    try:
        profiler = Profiler()
        timing = await time_system(system, make_workload(count), profiler.watch)
    except SinferError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    windows = count // items
    print(
        f"{system.name}: {windows:,} windows of {items}, {windows / timing.run_s:,.0f} windows/s"
        " while it was watched"
    )
    for name, us in timing.cpu_us.items():
        print(f"  {name:14} {us * items:8,.0f} us of processor for each window")
    _show(profiler.found, windows, arguments.top)
    return 1 if timing.problem else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
