"""What the results of a window are called: what sinks tell them apart by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sinfer.products.pipeline import InferPipeline
from sinfer.store.history.ledger import LedgerEntry
from sinfer.types.message import Message
from sinfer.types.result import ResultRow, WindowResults, qualifier
from sinfer.windows.ids import Scope, escape
from sinfer.windows.records import WindowRecord
from sinfer.windows.records import base_id as record_base_id
from sinfer.worker.attempts import Attempt
from sinfer.worker.completion import attempts_of
from sinfer.worker.ready_task import ReadyTask


def name_results(
    ready: ReadyTask, scope: Scope, attempt: Attempt, rows: Sequence[ResultRow]
) -> WindowResults:
    """The results of a window as sinks receive them.

    With ``ack: done``, messages are read again after Redis was wiped and get into windows that are
    cut in another way. Of what sinks have already, only the message is the same then, so that its
    stream sequence names the one result that it has. Elsewhere, and where results are not those of
    single messages, it is the place in the window that names them. In front of both go the product
    and the incarnation of the source, but for windows that an earlier version opened: results of
    them may be in sinks under names without.

    Args:
        ready: the task.
        scope: the partition.
        attempt: the window, and its messages in order.
        rows: with the places of results as their ordinals.
    """
    claim, closed = attempt.claim, attempt.claim.window
    record, again = closed.record, closed.record.reprocessing
    by_message = _are_known_by_message(ready.pipeline)
    if by_message:
        named = [_of_message(row, attempt.messages) for row in rows]
    elif ready.pipeline.results_per == "item" and again is not None and again.ordinals:
        named = [ResultRow(again.ordinals[row.ordinal], row.data) for row in rows]
    else:
        named = list(rows)
    incarnation = record.incarnation
    base_id = _set_of_messages(ready.pipeline, scope, record) if by_message else closed.base_id
    if incarnation:
        base_id = f"{qualifier(ready.product, incarnation)}{base_id}"
    return WindowResults(
        product=ready.product,
        task=ready.config.id,
        partition=scope.partition,
        key=record.key,
        window_id=closed.public_id,
        base_id=base_id,
        revision=record.revision,
        attempt=attempts_of(claim),
        start_ms=record.start_ms,
        end_ms=record.end_ms,
        close_reason=closed.reason,
        closed_ms=closed.closed_ms,
        rows=named,
        by_message=by_message,
        incarnation=incarnation,
        run=closed.run,
        is_again=again is not None,
        may_be_there=attempt.may_have_been_tried
        or (again is not None and again.kind == "redrive")
        or (by_message and record.first_seq <= record.repeats_to),
        messages=_messages_of(ready.pipeline, rows, named, attempt.messages),
    )


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
    by_message = _are_known_by_message(pipeline)
    sequences = list(entry.sequences) if by_message else []
    record = WindowRecord(entry.key, entry.start_ms, entry.end_ms, 0, 0)
    base_id = record_base_id(entry.window, record)
    if by_message:
        base_id = _set_of_messages(pipeline, scope, record)
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


def _are_known_by_message(pipeline: InferPipeline[Any, Any]) -> bool:
    """Windows that fire again replace all of their results, so these are the window's."""
    task = pipeline.task
    return (
        task.source.ack == "done"
        and task.window.late != "update"
        and pipeline.results_per == "item"
    )


def _set_of_messages(pipeline: InferPipeline[Any, Any], scope: Scope, record: WindowRecord) -> str:
    """What a message has one result in: ``task/partition``.

    Where a message is in several windows, their key and bounds follow: ``…/key/start-end``.
    """
    name = f"{escape(scope.task)}/{escape(scope.partition)}"
    if pipeline.task.window.type != "sliding":
        return name
    return f"{name}/{escape(record.key)}/{record.start_ms}-{record.end_ms}"


def _messages_of(
    pipeline: InferPipeline[Any, Any],
    rows: Sequence[ResultRow],
    named: Sequence[ResultRow],
    messages: Sequence[Message],
) -> dict[int, Message]:
    """The message of each result, by the result's ordinal."""
    if pipeline.results_per != "item":
        return {}
    pairs = zip(rows, named, strict=True)
    return {result.ordinal: messages[row.ordinal] for row, result in pairs}


def _of_message(row: ResultRow, messages: Sequence[Message]) -> ResultRow:
    return ResultRow(messages[row.ordinal].stream_seq, row.data)
