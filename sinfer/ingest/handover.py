"""What a new writer finds of a partition, and what becomes of it under the task as it is now."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sinfer.errors import ConfigError
from sinfer.ingest.closing import planner_of
from sinfer.ingest.isolation import asking_with_care
from sinfer.ingest.own_trigger import guarded
from sinfer.products.pipeline import InferPipeline
from sinfer.products.revisions import Revision, keeps, revision_of
from sinfer.products.task import InferTaskConfig
from sinfer.store.partition.partition_settings import PartitionSettings
from sinfer.store.partition.partition_state import PartitionState
from sinfer.windows.ids import Scope
from sinfer.windows.planner import CloseWhen, Planner, WindowOrigin
from sinfer.windows.planner_types import make_planner
from sinfer.windows.specs import WindowSpec, layout_of

_log = logging.getLogger(__name__)

_SPECS: TypeAdapter[WindowSpec] = TypeAdapter(WindowSpec)


@dataclass(frozen=True, slots=True)
class Changeover:
    """How a partition goes on.

    Attributes:
        planner: holds the open windows from now on.
        outgoing: holds open windows that cannot go on and are to be closed; None when all can.
        outgoing_config: what these are noted with.
        watermark_ms: where the watermark is from now on.
        settings: what is to be stored with the first commit.
        config: what windows that open from now on are noted with.
        has_new_endpoint: whether the task asks its model in another way than before.
    """

    planner: Planner
    outgoing: Planner | None
    outgoing_config: str
    watermark_ms: int | None
    settings: PartitionSettings
    config: str
    has_new_endpoint: bool


def change_over(
    scope: Scope,
    state: PartitionState,
    pipeline: InferPipeline[InferTaskConfig, object],
    *,
    incarnation: str,
    repeats_to: int = 0,
    layout: int | None = None,
) -> Changeover:
    """Decide how a partition goes on under a task.

    Args:
        scope: the partition.
        state: what the last writer left.
        pipeline: the product's code, made for the task.
        incarnation: of the source from now on.
        repeats_to: results of messages up to this stream sequence may be in sinks already.
        layout: begin with this layout, since there were windows of which nothing is left: one of
            the same id would hold other messages, and sinks take it for the same.

    Raises:
        ConfigError: the product's ``close_when`` does not go with the window type.
    """
    task = pipeline.task
    revision = revision_of(task)
    if not keeps(task, revision):
        _log.warning(
            "%s: its configuration has no form in JSON and is not kept with the windows: workers"
            " take it from their own task manager", scope,
        )  # fmt: skip
        revision = Revision("", "")
    known = Revision.unpack(state.config) if state.config else None
    settings = PartitionSettings(config=revision.pack() if revision.text else "")
    if pipeline.version != state.version:
        settings = replace(settings, version=pipeline.version)
    if known is not None and known.meaning != revision.meaning:
        settings = replace(settings, earlier={known.meaning: known.text})
    old_spec = None if known is None else stored_spec(known)
    if layout is None:
        layout = state.layout
    else:
        settings = replace(settings, layout=layout)
        _log.warning(
            "%s: messages were read before, but nothing is stored of them: Redis was wiped, or the"
            " durable consumer was used elsewhere; what was not acknowledged is read again",
            scope,
        )
    if incarnation != state.incarnation:
        settings = replace(settings, incarnation=incarnation)
    repeats_to = max(repeats_to, state.repeats_to)
    if repeats_to != state.repeats_to:
        settings = replace(settings, repeats_to=repeats_to)
    watermark_ms, windows = state.watermark_ms, state.windows
    outgoing = None
    # Messages of another incarnation go into no window of the last one, nor follow its watermark.
    is_new_start = state.source is None and incarnation != state.incarnation
    is_cut_otherwise = old_spec is not None and layout_of(old_spec) != layout_of(task.window)
    if old_spec is not None and (is_cut_otherwise or is_new_start):
        outgoing = planner_of(scope, replace(state, layout=layout), old_spec)
        layout, windows = layout + 1, {}
        settings = replace(settings, layout=layout)
        if old_spec.time != task.window.time or is_new_start:
            watermark_ms = None
            settings = replace(settings, forgets_watermark=True)
    planner = make_planner(
        task.window,
        scope.prefix_of(layout),
        windows=windows,
        watermark_ms=watermark_ms,
        close_when=_trigger_of(pipeline),
        origin=WindowOrigin(incarnation, repeats_to, pipeline.version),
    )
    has_new_endpoint = (
        known is not None
        and bool(revision.text)
        and known.settings["inference"] != revision.settings["inference"]
    )
    return Changeover(
        planner=planner,
        outgoing=outgoing,
        outgoing_config="" if known is None else known.meaning,
        watermark_ms=watermark_ms,
        settings=settings,
        config=revision.meaning,
        has_new_endpoint=has_new_endpoint,
    )


def _trigger_of(pipeline: InferPipeline[Any, Any]) -> CloseWhen | None:
    if not pipeline.overrides("close_when"):
        return None
    return guarded(asking_with_care(pipeline.close_when))


def stored_spec(revision: Revision) -> WindowSpec:
    """How a stored configuration cuts windows.

    Raises:
        ConfigError: it is not valid any more.
    """
    try:
        return _SPECS.validate_python(revision.settings["window"])
    except (KeyError, ValidationError) as error:
        raise ConfigError(f"the stored window part of the task is not valid: {error}") from None
