"""``python -m tests.chaos``: the long run. The same seed draws the same faults.

Two storms: one over tasks of every kind, then a shorter one in which Redis is emptied, over tasks
with ``ack: done``.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from sinfer.embedded.termination import unwinding_on_signals
from tests.chaos.report import Plan, Report
from tests.chaos.site import Site
from tests.chaos.storm import ALL_FAULTS, Storm
from tests.chaos.wiping_storm import ACK_WHEN_DONE, WipingStorm, wiping_plan

_WIPING_PART = 10
"""The storm with an emptied Redis has so much fewer faults and messages."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--faults", type=int, default=500, help="default: %(default)s")
    parser.add_argument("--messages", type=int, default=300_000, help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=40.0, help="most; default: %(default)s")
    parser.add_argument("--storm", choices=["all", "wiping", "both"], default="both")
    parser.add_argument("--untimed", action="store_true", help="a slow recovery is no failure")
    parser.add_argument("--fsync", choices=["everysec", "always"], default="everysec")
    parser.add_argument("--keep", type=Path, help="keep all files and logs in this directory")
    options = parser.parse_args()
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    # Messages come as long as faults do, of which there is one in about two seconds.
    seconds = min(options.minutes * 60, 2.5 * options.faults)
    plan = Plan(
        seed=seed,
        faults=options.faults,
        messages=options.messages,
        per_second=options.messages / seconds,
        longest_s=options.minutes * 60,
        kinds=ALL_FAULTS,
        settle_s=600.0,
        is_timed=not options.untimed,
    )
    print(f"seed {seed}, Redis with appendfsync {options.fsync}", flush=True)
    began = time.monotonic()
    reports: list[Report] = []
    with unwinding_on_signals(), tempfile.TemporaryDirectory(prefix="sinfer-chaos-") as directory:
        files = options.keep or Path(directory)
        if options.storm != "wiping":
            with Site(files / "all", fsync=options.fsync, skew_s=300.0) as site:
                reports.append(asyncio.run(_run(site, Storm, plan)))
            print(f"{reports[0]}\n{time.monotonic() - began:.0f} s", flush=True)
        if options.storm != "all":
            print("now Redis is emptied, too", flush=True)
            with Site(files / "wiped", tasks=ACK_WHEN_DONE, skew_s=300.0) as site:
                wiping = wiping_plan(plan, _WIPING_PART)
                reports.append(asyncio.run(_run(site, WipingStorm, wiping)))
    print(*reports, f"{time.monotonic() - began:.0f} s; seed {seed}", sep="\n")
    sys.exit(0 if all(report.is_clean for report in reports) else 1)


async def _run(site: Site, kind: type[Storm], plan: Plan) -> Report:
    await site.make_streams()
    await asyncio.to_thread(site.start)
    return await kind(site, plan, lambda text: print(text, flush=True)).run()


if __name__ == "__main__":
    main()
