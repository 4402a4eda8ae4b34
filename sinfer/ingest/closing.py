"""Closing all that is open of a partition, before it is cut in another way, or left for good."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from sinfer.errors import WindowConflictError
from sinfer.store.partition.partition_state import PartitionState
from sinfer.windows.ids import Scope
from sinfer.windows.plan import Plan
from sinfer.windows.planner import Planner, WindowOrigin
from sinfer.windows.planner_types import make_planner
from sinfer.windows.specs import WindowSpec

R = TypeVar("R")


def planner_of(scope: Scope, state: PartitionState, spec: WindowSpec) -> Planner:
    """What plans the windows that are stored.

    Args:
        scope: the partition.
        state: what its last writer left.
        spec: how these windows are cut.
    """
    return make_planner(
        spec,
        scope.prefix_of(state.layout),
        windows=state.windows,
        watermark_ms=state.watermark_ms,
        origin=WindowOrigin(state.incarnation, state.repeats_to, state.version),
    )


async def close_all(
    planner: Planner, config: str, commit: Callable[[Plan], Awaitable[R]]
) -> tuple[Plan, R]:
    """Close what is open, and plan it once more where beat was quicker.

    Args:
        planner: knows the open windows.
        config: the configuration that windows are noted with which have none yet.
        commit: stores a plan.

    Returns:
        The plan that was stored, and what ``commit`` returned for it.
    """
    while True:
        plan = planner.close_all("drain")
        for window in plan.closed:
            window.record.config = window.record.config or config
        try:
            return plan, await commit(plan)
        except WindowConflictError as conflict:
            planner.forget(conflict.window_ids)
