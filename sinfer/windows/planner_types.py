"""Which planner serves which window type."""

from __future__ import annotations

from collections.abc import Mapping

from sinfer.errors import ConfigError
from sinfer.windows.count import CountPlanner
from sinfer.windows.planner import CloseWhen, Planner, WindowOrigin
from sinfer.windows.records import WindowRecord
from sinfer.windows.session import SessionPlanner
from sinfer.windows.sliding import SlidingPlanner
from sinfer.windows.specs import WindowSpec
from sinfer.windows.tumbling import TumblingPlanner

_PLANNERS: dict[str, type[Planner]] = {
    "tumbling": TumblingPlanner,
    "count": CountPlanner,
    "sliding": SlidingPlanner,
    "session": SessionPlanner,
}


def make_planner(
    spec: WindowSpec,
    prefix: str,
    *,
    windows: Mapping[str, WindowRecord] | None = None,
    watermark_ms: int | None = None,
    close_when: CloseWhen | None = None,
    origin: WindowOrigin | None = None,
) -> Planner:
    """A planner for a window type; the arguments are those of ``Planner``.

    Raises:
        ConfigError: the product's ``close_when`` does not go with the window type.
    """
    if close_when is not None and (spec.type == "sliding" or spec.late == "update"):
        raise ConfigError(
            "window: close_when cannot end sliding windows or windows with 'late: update',"
            " which need all of their items; choose another type or remove close_when"
        )
    return _PLANNERS[spec.type](
        spec,
        prefix,
        windows=windows,
        watermark_ms=watermark_ms,
        close_when=close_when,
        origin=origin,
    )
