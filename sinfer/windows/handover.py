"""What to do with open windows when a task's ``window:`` settings have changed.

Windows that were cut by other rules cannot go on. They are closed as they are (reason ``drain``) in
a commit of their own, by a planner that still follows the old rules; then the new ones start.
"""

from __future__ import annotations

from pydantic import TypeAdapter

from sinfer.windows.planner import Planner
from sinfer.windows.planners import make_planner
from sinfer.windows.specs import WindowSpec
from sinfer.windows.writer import PartitionState

_CUTTING = ("type", "size", "slide", "gap", "time", "late")
"""Settings that decide which windows there are. The others may change while windows are open."""

_specs: TypeAdapter[WindowSpec] = TypeAdapter(WindowSpec)


def spec_text(spec: WindowSpec) -> str:
    """A window's settings as the store keeps them: the setting ``spec`` of a partition."""
    return spec.model_dump_json(exclude_unset=True)


def planner_of_old(state: PartitionState, spec: WindowSpec, prefix: str) -> Planner | None:
    """A planner that can close what is open by old rules; None when the rules are the same.

    Args:
        state: what is stored.
        spec: the settings now.
        prefix: how the ids of the partition's windows begin.
    """
    if state.spec is None or not state.windows:
        return None
    old = _specs.validate_json(state.spec)
    if all(getattr(old, name, None) == getattr(spec, name, None) for name in _CUTTING):
        return None
    return make_planner(old, prefix, windows=state.windows, watermark_ms=state.watermark_ms)
