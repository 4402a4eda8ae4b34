"""Whether sinks have the results of finished windows, each once."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from sinfer.errors import SinferError, SinkError
from sinfer.hooks.call import Hook
from sinfer.ingest.entries import Preparer
from sinfer.nats.stream_messages import StreamMessages
from sinfer.operations.deep_audit import DeepAudited, Finding, Progress
from sinfer.products.pipeline import InferPipeline
from sinfer.sinks.base import Sink
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter
from sinfer.store.history.ledger import LedgerEntry, read_ledger
from sinfer.store.work.contents import unpack_members
from sinfer.types.result import WindowResults
from sinfer.windows.ids import Scope
from sinfer.worker.result_keys import names_of

_WINDOWS_AT_ONCE = 200
_PATIENCE_S = 120.0


class _Window:
    """A finished window, and what must be known of its results.

    Attributes:
        entry: the first time that it was processed.
        uncertain: so many of its results need not be there, for reasons that nobody noted.
    """

    def __init__(self, entry: LedgerEntry, letters: set[int], redriven: set[int]) -> None:
        self.entry = entry
        without = letters - redriven
        filtered = set(unpack_members(entry.filtered))
        without |= {n for n, seq in enumerate(entry.sequences) if seq in filtered}
        self.expected = [n for n in range(entry.count) if n not in without]
        self.uncertain = max(0, entry.dead - len(letters | redriven))


class ResultAudit:
    """Asks the sinks of one task about the results of windows that the ledger has.

    Args:
        store: the window store.
        messages: of the task's stream.
        scope: the partition.
        pipeline: the product's code, made for the task.
        sinks: the task's sinks by name.
        result: takes what is found.
        progress: is told of results that were asked about.
    """

    def __init__(
        self,
        store: Store,
        messages: StreamMessages,
        scope: Scope,
        pipeline: InferPipeline[Any, Any],
        sinks: Mapping[str, Sink],
        result: DeepAudited,
        progress: Progress,
    ) -> None:
        self._store = store
        self._messages = messages
        self._scope = scope
        self._pipeline = pipeline
        self._preparer = Preparer(pipeline)
        self._sinks = sinks
        self._result = result
        self._progress = progress
        self._asked: dict[str, int] = dict.fromkeys(sinks, 0)
        self._silent: dict[str, str] = {}
        self._unknown = 0
        self._reruns: set[str] = set()

    async def run(self) -> None:
        """Ask the sinks."""
        per = self._pipeline.results_per
        if per != "item":
            text = "not asked: how many results a window has is known of results_per = 'item' only"
            self._result.sinks.update(dict.fromkeys(self._sinks, text))
            return
        if self._pipeline.task.window.dedupe is not None:
            text = "not asked: window.dedupe leaves items out, and which is not noted"
            self._result.sinks.update(dict.fromkeys(self._sinks, text))
            return
        letters, redriven = await self._given_up()
        windows: list[_Window] = []
        seen: set[tuple[str, str]] = set()
        async for finished in read_ledger(self._store, self._scope):
            entry = finished.entry
            if entry.kind == "rerun":
                self._reruns.add(entry.window)
            base = entry.window.rpartition("/")[0] if entry.revision else entry.window
            if entry.kind != "first" or (entry.incarnation, base) in seen:
                continue
            seen.add((entry.incarnation, base))
            key = (entry.window, entry.incarnation)
            windows.append(_Window(entry, letters[key], redriven[key]))
            if len(windows) >= _WINDOWS_AT_ONCE:
                await self._ask(windows)
                windows = []
        await self._ask(windows)
        for name, number in self._asked.items():
            text = self._silent.get(name) or f"asked about {number} results"
            self._result.sinks[name] = text
        if self._unknown:
            self._result.unknown.append(
                f"{self._unknown} results are in no sink that should have them, and their messages"
                " may have been filtered out or given up, or the fallback has them: nothing tells"
            )

    async def _given_up(self) -> tuple[dict[Any, set[int]], dict[Any, set[int]]]:
        """The places of dead letters, and of those that were redriven and have results since."""
        letters: dict[Any, set[int]] = defaultdict(set)
        redriven: dict[Any, set[int]] = defaultdict(set)
        async for finished in read_ledger(self._store, self._scope):
            entry = finished.entry
            if entry.kind == "redrive":
                redriven[entry.window, entry.incarnation].update(entry.ordinals)
        async for stored in DeadLetterStore(self._store).of_partition(self._scope, LetterFilter()):
            letter = stored.letter
            if letter.ordinal >= 0:
                name = (letter.window, letter.incarnation)
                letters[name].add(letter.ordinal)
                redriven[name].discard(letter.ordinal)
        return letters, redriven

    async def _ask(self, windows: list[_Window]) -> None:
        names = [names_of(self._pipeline, self._scope, w.entry, w.expected) for w in windows]
        for label, sink in self._sinks.items():
            if label in self._silent or not windows:
                continue
            # A sink that the task got later has none of the older results.
            pairs = [
                (window, name.for_sink(label))
                for window, name in zip(windows, names, strict=True)
                if window.entry.sinks is None or label in window.entry.sinks
            ]
            if not pairs:
                continue
            asked = [name for _, name in pairs]
            stored = await self._stored(label, sink, asked)
            if stored is None:
                continue
            for (window, name), found in zip(pairs, stored, strict=True):
                self._asked[label] += len(name)
                self._progress(len(name))
                await self._compare(label, window, name, found)

    async def _stored(
        self, label: str, sink: Sink, asked: list[WindowResults]
    ) -> list[dict[int, int]] | None:
        """What a sink says that it has; None where it cannot tell, which is noted."""
        ask = Hook("sink", "stored", sink.stored, task=str(self._scope), passing=(SinkError,))
        try:
            async with asyncio.timeout(_PATIENCE_S):
                stored = await ask.wait(asked)
        except SinferError as error:
            self._silent[label] = f"could not be asked: {error}"
            return None
        except TimeoutError:
            self._silent[label] = f"could not be asked: no answer within {_PATIENCE_S:.0f} s"
            return None
        if stored is None:
            self._silent[label] = "not asked: it cannot tell what it has"
            return None
        try:
            counts = msgspec.convert(stored, list[dict[int, int]])
        except msgspec.ValidationError as error:
            self._silent[label] = f"could not be asked: stored() returned something else: {error}"
            return None
        if len(counts) != len(asked):
            self._silent[label] = (
                f"could not be asked: stored() told of {len(counts)} windows, not of {len(asked)}"
            )
            return None
        return counts

    async def _compare(
        self, label: str, window: _Window, name: WindowResults, found: Mapping[int, int]
    ) -> None:
        entry, where = window.entry, f"sink {label}"
        places = {row.ordinal: n for row, n in zip(name, window.expected, strict=True)}
        missing = [row.ordinal for row in name if not found.get(row.ordinal)]
        sequences = list(entry.sequences)
        if missing:
            missing = await self._that_have_items(missing, places, sequences)
        if self._pipeline.task.fallback is not None or len(missing) <= window.uncertain:
            self._unknown += len(missing)
            missing = []
        for ordinal in missing:
            seq = sequences[places[ordinal]]
            text = f"the result {name.idempotency_key(_row(name, ordinal))} is not there"
            self._result.add(Finding("missing", where, text, entry.window, ordinal, seq))
        for ordinal, copies in found.items():
            place = places.get(ordinal)
            if place is None and copies and not self._may_be(ordinal, entry):
                text = f"{copies} results are there that the window has not"
                self._result.add(Finding("foreign", where, text, entry.window, ordinal))
            elif place is not None and copies > 1 and entry.window not in self._reruns:
                text = f"the result is there {copies} times"
                seq = sequences[place]
                self._result.add(Finding("doubled", where, text, entry.window, ordinal, seq))

    def _may_be(self, ordinal: int, entry: LedgerEntry) -> bool:
        """Whether a result may be one of a message that another sink refused, and is dead."""
        return bool(entry.dead) and 0 <= ordinal < entry.count

    async def _that_have_items(
        self, missing: list[int], places: Mapping[int, int], sequences: list[int]
    ) -> list[int]:
        """Those of the missing results whose messages have one, as far as the stream tells."""
        kept = []
        for ordinal in missing:
            message = await self._messages.get(sequences[places[ordinal]])
            if message is None:
                self._unknown += 1
                continue
            prepared = self._preparer.prepare([message], message.timestamp_ns // 1_000_000)
            if prepared.entries:
                kept.append(ordinal)
        return kept


def _row(name: WindowResults, ordinal: int) -> Any:
    return next(row for row in name if row.ordinal == ordinal)
