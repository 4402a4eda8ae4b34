"""The first commit of a partition under a configuration, before it is read."""

from __future__ import annotations

import logging

from sinfer.ingest.closing import close_all
from sinfer.ingest.commit import Storing
from sinfer.ingest.handover import Changeover
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.partition.batch_commit import Commit
from sinfer.store.partition.writer import PartitionWriter
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

    async def store(plan: Plan) -> None:
        # Windows that are cut in another way begin where the messages are, not behind these.
        plan.watermark_ms = change.watermark_ms
        await storing.store(Commit(plan, source), settings=change.settings)

    plan = Plan()
    if outgoing is None:
        await store(plan)
    else:
        plan, _ = await close_all(outgoing, change.outgoing_config, store)
    if plan.closed:
        _log.info(
            "%s: %d windows closed, since the task cuts windows in another way now or starts over",
            scope, len(plan.closed),
        )  # fmt: skip
    await writer.prune_configs()
    if change.has_new_endpoint and await pauses.resume_after_failure(scope.product, scope.task):
        _log.info("%s: asks its model in another way now, so its pause is over", scope)
