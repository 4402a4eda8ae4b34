"""From the messages of a claimed window to the items that its product sees."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from sinfer.errors import HookError
from sinfer.hooks.call import Hook
from sinfer.store.work.claim import Claim
from sinfer.types.message import Message
from sinfer.windows.deduplication import kept_places
from sinfer.windows.window import Window
from sinfer.worker.outcome import Failure, Outcome
from sinfer.worker.ready_task import ReadyTask


def window_of(
    ready: ReadyTask,
    claim: Claim,
    messages: Sequence[Message],
    places: Sequence[int],
    outcome: Outcome,
) -> tuple[Window[Any], list[int]]:
    """A window of the messages at some places, and the places that its items have.

    Items that ``preprocess`` raises for are added to the outcome's failures, those that it filters
    out to the filtered.
    """
    pipeline, dedupe = ready.pipeline, ready.config.window.dedupe
    preprocess = Hook("preprocess", "preprocess", pipeline.preprocess, task=ready.name)
    item_id = _identities(ready)
    items, kept, ids = [], [], []
    with preprocess.for_each() as item_of:
        for place in places:
            try:
                item = item_of(messages[place])
                if item is not None and dedupe is not None:
                    ids.append(item_id(item))
            except HookError as error:
                outcome.failures.append(Failure.at(place, place, "preprocess", error.text))
                continue
            if item is not None:
                items.append(item)
                kept.append(place)
            elif place not in outcome.filtered:
                outcome.filtered.append(place)
    if dedupe is not None:
        unique = kept_places(ids, dedupe)
        items, kept = [items[n] for n in unique], [kept[n] for n in unique]
    closed = claim.window
    record = closed.record
    window = Window(
        items,
        [messages[place] for place in kept],
        id=closed.public_id,
        task=ready.config.id,
        key=record.key,
        start=None if record.start_ms is None else record.start_ms / 1000,
        end=None if record.end_ms is None else record.end_ms / 1000,
        close_reason=closed.reason,
        revision=record.revision,
    )
    return window, kept


def _identities(ready: ReadyTask) -> Hook:
    """Numbers items by their ``item_id``: one number for those that have the same.

    An id is hashed and compared in the call for its own item, so that one which cannot be harms
    that item alone.
    """
    return Hook("preprocess", "item_id", _numbering(ready.pipeline.item_id), task=ready.name)


def _numbering(item_id: Callable[[Any], Hashable]) -> Callable[[Any], int]:
    known: dict[Hashable, int] = {}

    def number(item: Any) -> int:
        return known.setdefault(item_id(item), len(known))

    return number


def leave_out_repeats(ready: ReadyTask, messages: Sequence[Message], outcome: Outcome) -> None:
    """With ``window.dedupe``: take those results out again whose items repeat others.

    That is needed where a window was asked about part by part. Of what was given up nothing is
    called again.
    """
    dedupe = ready.config.window.dedupe
    if dedupe is None:
        return
    preprocess = Hook("preprocess", "preprocess", ready.pipeline.preprocess, task=ready.name)
    item_id = _identities(ready)
    places = [row.ordinal for row in outcome.rows]
    places += [p for f in outcome.retries for p in range(f.first, f.last + 1)]
    known, ids = [], []
    for place in sorted(places):
        try:
            ids.append(item_id(preprocess(messages[place])))
        except HookError:  # it is pure, they say: it came through before
            continue
        known.append(place)
    repeats = set(known) - {known[n] for n in kept_places(ids, dedupe)}
    outcome.rows = [row for row in outcome.rows if row.ordinal not in repeats]
    outcome.retries = [f for f in outcome.retries if f.first not in repeats]
