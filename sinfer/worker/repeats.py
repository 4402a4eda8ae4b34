"""Items of a window that repeat others: the ``dedupe`` setting."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from sinfer.errors import HookError
from sinfer.hooks.call import Hook
from sinfer.types.message import Message
from sinfer.windows.deduplication import kept_places
from sinfer.worker.outcome import Outcome

if TYPE_CHECKING:
    from sinfer.worker.task_model import TaskModel


def unrepeated(
    model: TaskModel, items: list[Any], places: list[int], failed: dict[int, str]
) -> list[int]:
    """Which items are kept, by their places among them.

    Args:
        model: of the task, which says which items those are.
        items: of the window.
        places: of their messages.
        failed: why ``item_id`` raises for some is noted here, by the places of their messages.
    """
    assert model.dedupe is not None
    ids, known = [], []
    for n, found in enumerate(_identities(model).each(items)):
        if isinstance(found, HookError):
            failed[places[n]] = found.text
        else:
            ids.append(found)
            known.append(n)
    return [known[n] for n in kept_places(ids, model.dedupe)]


def leave_out_repeats(model: TaskModel, messages: Sequence[Message], outcome: Outcome) -> None:
    """Take those results out again whose items repeat others.

    That is needed where a window was asked about part by part. Of what was given up nothing is
    called again.
    """
    if model.dedupe is None:
        return
    item_id = _identities(model)
    places = [row.ordinal for row in outcome.rows]
    places += [p for f in outcome.retries for p in range(f.first, f.last + 1)]
    known, ids = [], []
    for place in sorted(places):
        try:
            ids.append(item_id(model.preprocess_hook(messages[place])))
        except HookError:  # it is pure, they say: it came through before
            continue
        known.append(place)
    repeats = set(known) - {known[n] for n in kept_places(ids, model.dedupe)}
    outcome.rows = [row for row in outcome.rows if row.ordinal not in repeats]
    outcome.retries = [f for f in outcome.retries if f.first not in repeats]


def _identities(model: TaskModel) -> Hook:
    """Numbers items by their ``item_id``: one number for those that have the same.

    An id is hashed and compared in the call for its own item, so that one which cannot be harms
    that item alone.
    """
    pipeline = model.pipeline
    return Hook("preprocess", "item_id", _numbering(pipeline.item_id), task=model.name)


def _numbering(item_id: Callable[[Any], Hashable]) -> Callable[[Any], int]:
    known: dict[Hashable, int] = {}

    def number(item: Any) -> int:
        return known.setdefault(item_id(item), len(known))

    return number
