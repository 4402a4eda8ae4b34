"""What results are known by: their messages, or their places in a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sinfer.products.pipeline import InferPipeline
from sinfer.store.history.ledger import LedgerEntry
from sinfer.types.result import ResultRow, WindowResults, qualifier
from sinfer.windows.ids import Scope, escape
from sinfer.windows.records import WindowRecord
from sinfer.windows.records import base_id as record_base_id


def names_of(
    pipeline: InferPipeline[Any, Any], scope: Scope, entry: LedgerEntry, ordinals: Sequence[int]
) -> WindowResults:
    """What results of a finished window were called, without their data.

    Args:
        pipeline: the product's code, made for the task.
        scope: the partition.
        entry: the window, as the ledger has it: the first time that it was processed.
        ordinals: the places of the results in the window.
    """
    by_message = are_known_by_message(pipeline)
    sequences = list(entry.sequences) if by_message else []
    record = WindowRecord(entry.key, entry.start_ms, entry.end_ms, 0, 0)
    base_id = record_base_id(entry.window, record)
    if by_message:
        base_id = set_of_messages(pipeline, scope, record)
    if entry.incarnation:
        base_id = f"{qualifier(scope.product, entry.incarnation)}{base_id}"
    return WindowResults(
        product=scope.product,
        task=scope.task,
        partition=scope.partition,
        key=entry.key,
        window_id=entry.window,
        base_id=base_id,
        revision=entry.revision,
        attempt=entry.attempts,
        start_ms=entry.start_ms,
        end_ms=entry.end_ms,
        close_reason=entry.reason,
        closed_ms=entry.closed_ms,
        rows=[ResultRow(sequences[n] if by_message else n, b"") for n in ordinals],
        by_message=by_message,
        incarnation=entry.incarnation,
    )


def are_known_by_message(pipeline: InferPipeline[Any, Any]) -> bool:
    """Windows that fire again replace all of their results, so these are the window's."""
    task = pipeline.task
    return (
        task.source.ack == "done"
        and task.window.late != "update"
        and pipeline.results_per == "item"
    )


def set_of_messages(pipeline: InferPipeline[Any, Any], scope: Scope, record: WindowRecord) -> str:
    """What a message has one result in: ``task/partition``.

    Where a message is in several windows, their key and bounds follow: ``…/key/start-end``.
    """
    name = f"{escape(scope.task)}/{escape(scope.partition)}"
    if pipeline.task.window.type != "sliding":
        return name
    return f"{name}/{escape(record.key)}/{record.start_ms}-{record.end_ms}"
