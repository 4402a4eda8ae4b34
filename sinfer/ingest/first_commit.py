"""The first commit of a partition under a configuration, before it is read."""

from __future__ import annotations

import logging

from sinfer.errors import WindowConflictError
from sinfer.ingest.commit import Storing
from sinfer.ingest.handover import Changeover
from sinfer.store.pauses import PauseBoard
from sinfer.store.writer import Commit, PartitionWriter
from sinfer.windows.plan import Plan

_log = logging.getLogger(__name__)


async def begin(
    change: Changeover,
    source: bytes,
    *,
    storing: Storing,
    writer: PartitionWriter,
    pauses: PauseBoard,
) -> None:
    """Store the configuration, and in the same step close what cannot go on under it.

    Args:
        change: from the configuration that was in force to the one that is.
        source: the reader's state, as it was stored.
        storing: where to.
        writer: of the partition.
        pauses: a pause for a failure ends where the model is asked in another way now.
    """
    scope, outgoing = writer.scope, change.outgoing
    while True:
        plan = Plan() if outgoing is None else outgoing.close_all("drain")
        # Windows that are cut in another way begin where the messages are, not behind these.
        plan.watermark_ms = change.watermark_ms
        for window in plan.closed:
            window.record.config = window.record.config or change.outgoing_config
        try:
            await storing.store(Commit(plan, source), settings=change.settings)
            break
        except WindowConflictError as conflict:
            assert outgoing is not None
            outgoing.forget(conflict.window_ids)
    if plan.closed:
        _log.info(
            "%s: %d windows closed, since the task cuts windows in another way now or starts over",
            scope, len(plan.closed),
        )  # fmt: skip
    await writer.prune_configs()
    if change.has_new_endpoint and await pauses.resume_after_failure(scope.product, scope.task):
        _log.info("%s: asks its model in another way now, so its pause is over", scope)
