"""A short storm: what breaks in ``make chaos`` and is soon over, not for long."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.chaos.report import Plan, Report
from tests.chaos.site import Site
from tests.chaos.storm import SHORT_FAULTS, Storm

pytestmark = pytest.mark.e2e

SEED = int(os.environ.get("CHAOS_SEED", "4"))


async def test_every_message_has_its_one_result_or_dead_letter_whatever_breaks(
    tmp_path: Path,
) -> None:
    plan = Plan(
        seed=SEED, faults=8, messages=3_600, per_second=300, longest_s=12, settle_s=120,
        kinds=SHORT_FAULTS,
    )  # fmt: skip
    with Site(tmp_path, skew_s=300.0) as site:
        report = await run(site, plan)
    print(report)
    assert report.is_clean, f"seed {SEED}: {report}"


async def run(site: Site, plan: Plan) -> Report:
    await site.make_streams()
    await asyncio.to_thread(site.start)
    return await Storm(site, plan).run()
