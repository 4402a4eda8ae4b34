"""Redriving dead letters: back into windows, and from there the way that every window goes.

Letters that had a window go back as that window, whole or in part, and keep their places in it; so
sinks that have results of it already meet no new ones. Letters that never came to a window go
through ``preprocess`` and ``key`` here. If they fail once more, they stay dead, with their history.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec import structs

from sinfer.config.units import to_ms
from sinfer.ingest.entries import Prepared, Preparer
from sinfer.ingest.isolation import CarefulPreparer, ended_a_process
from sinfer.products.pipeline import InferPipeline
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter, StoredLetter
from sinfer.store.partition.account import Count
from sinfer.store.work.claims import PartitionClaims
from sinfer.store.work.requeue import requeue
from sinfer.windows.dead_letters import DeadLetter, Origin, is_readable
from sinfer.windows.ids import Scope, escape
from sinfer.windows.plan import Entry
from sinfer.windows.reprocessing import Reprocessing
from sinfer.windows.specs import SessionWindow, SlidingWindow, TumblingWindow, WindowSpec

_log = logging.getLogger(__name__)

_BATCH = 1000
_BATCH_BYTES = 32 * 1024 * 1024
_MOST_IN_WINDOW = 500
_POLL_S = 0.1


@dataclass(slots=True)
class Redriven:
    """What became of the letters.

    Attributes:
        letters: went back into windows.
        windows: how many windows that made.
        filtered: are no concern of the product any more: ``preprocess`` filters them out now.
        failed: failed again at once and stay dead.
        gone: were taken by someone else meanwhile.
        reasons: why letters failed again, and how often.
    """

    letters: int = 0
    windows: int = 0
    filtered: int = 0
    failed: int = 0
    gone: int = 0
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def total(self) -> int:
        """All letters that were looked at."""
        return self.letters + self.filtered + self.failed + self.gone


class _Place(NamedTuple):
    """The window that a letter without one goes into."""

    key: str
    start_ms: int | None
    end_ms: int | None


class Redrive:
    """Redrives the letters of one partition.

    Args:
        store: the window store.
        scope: the partition.
        pipeline: the product's code, made for the task.
        rate: most letters a second; None for as fast as the task's limits allow.
        progress: is told of letters that were dealt with.
    """

    def __init__(
        self,
        store: Store,
        scope: Scope,
        pipeline: InferPipeline[Any, Any],
        *,
        rate: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._scope = scope
        self._letters = DeadLetterStore(store)
        self._task = pipeline.task
        self._per_item = pipeline.results_per == "item"
        self._preparer = Preparer(pipeline)
        self._careful = CarefulPreparer(type(pipeline), pipeline.task, str(scope))
        self._rate = rate
        self._progress = progress or (lambda letters: None)
        self._started = time.monotonic()
        self.result = Redriven()

    async def run(self, wanted: LetterFilter) -> Redriven:
        """Redrive all letters that are meant and were stored before this began.

        Raises:
            UnavailableError, StoreFullError: part of them may be redriven; the others stay dead.
        """
        try:
            return await self._run(wanted)
        finally:
            await self._careful.release()

    async def _run(self, wanted: LetterFilter) -> Redriven:
        last = await self._letters.last(self._scope)
        if last is None:
            return self.result
        batch: list[StoredLetter] = []
        size = 0
        async for stored in self._letters.of_partition(self._scope, wanted, upto=last):
            if not is_readable(stored.letter):
                _log.warning("dead letter %s stays: %s", stored.id, stored.letter.error)
                continue
            is_large = len(batch) >= _BATCH or size >= _BATCH_BYTES
            if is_large and stored.letter.window != batch[-1].letter.window:
                await self._redrive(batch)
                batch, size = [], 0
            batch.append(stored)
            size += len(stored.letter.message.data)
        await self._redrive(batch)
        return self.result

    async def _redrive(self, batch: Sequence[StoredLetter]) -> None:
        windows: dict[tuple[str, str], list[StoredLetter]] = defaultdict(list)
        loose: list[StoredLetter] = []
        for stored in batch:
            if stored.letter.origin is None:
                loose.append(stored)
            else:
                windows[stored.letter.window, stored.letter.incarnation].append(stored)
        for (window_id, _), letters in windows.items():
            await self._back_into(window_id, letters)
        await self._into_new(loose)

    # --- letters that had a window ---

    async def _back_into(self, window_id: str, letters: list[StoredLetter]) -> None:
        origin = letters[0].letter.origin
        assert origin is not None, "letters without a window go elsewhere"
        letters.sort(key=lambda stored: stored.letter.ordinal)
        if not self._per_item and len(letters) < origin.count:
            # Results of a part of the window must not replace those of another part.
            window_id = f"{window_id}~{letters[0].entry}"
            await self._reopen(window_id, origin, letters, keeps_places=False)
            return
        size = _MOST_IN_WINDOW if self._per_item else len(letters)
        for first in range(0, len(letters), size):
            await self._reopen(window_id, origin, letters[first : first + size], keeps_places=True)

    # --- letters that had none ---

    async def _into_new(self, letters: Sequence[StoredLetter]) -> None:
        now_ms = await self._store.now_ms()
        places: dict[tuple[_Place, str], list[StoredLetter]] = defaultdict(list)
        for stored in letters:
            prepared = await self._prepare(stored.letter, now_ms)
            if prepared.entries:
                place = self._place(prepared.entries[0], now_ms)
                places[place, stored.letter.incarnation].append(stored)
            elif prepared.dead:
                history = stored.letter.whole_history
                again = structs.replace(
                    prepared.dead[0], history=history, incarnation=stored.letter.incarnation
                )
                await self._count("failed", int(await self._letters.replace(stored, again)), 1)
                self.result.reasons[again.error] += 1
            else:
                counts = {Count.DEAD: -1, Count.FILTERED: 1, Count.REDRIVEN: 1}
                gone = await self._letters.discard(self._scope, [stored.entry], counts)
                await self._count("filtered", gone, 1)
        size = self._task.inference.max_batch or _MOST_IN_WINDOW
        for (place, _), found in places.items():
            found.sort(key=lambda stored: stored.letter.message.stream_seq)
            for first in range(0, len(found), size):
                part = found[first : first + size]
                seq = part[0].letter.message.stream_seq
                name = f"{escape(place.key)}/{seq}~{part[0].entry}"
                origin = Origin(*place, reason="drain", revision=0, count=len(part))
                window_id = f"{self._scope.window_prefix}{name}"
                await self._reopen(window_id, origin, part, keeps_places=False)

    async def _prepare(self, letter: DeadLetter, now_ms: int) -> Prepared:
        """What ended a process of an ingestor must not end this one."""
        if ended_a_process(letter.error):
            return await self._careful.prepare([letter.message], now_ms)
        return self._preparer.prepare([letter.message], now_ms)

    def _place(self, entry: Entry, now_ms: int) -> _Place:
        spec = self._task.window
        time_ms = entry.time_ms if spec.time == "event" else now_ms
        return _Place(entry.key, *_bounds(spec, time_ms))

    # --- both ---

    async def _reopen(
        self, window_id: str, origin: Origin, letters: list[StoredLetter], *, keeps_places: bool
    ) -> None:
        await self._wait_for_room()
        letters.sort(key=lambda stored: stored.letter.message.stream_seq)
        histories = [stored.letter.whole_history for stored in letters]
        reprocessing = Reprocessing(
            "redrive",
            window_id,
            attempts=max(sum(failed.attempts for failed in history) for history in histories),
            ordinals=[stored.letter.ordinal for stored in letters] if keeps_places else [],
            history=histories,
        )
        taken = await requeue(
            self._store,
            self._scope,
            origin,
            reprocessing,
            [stored.letter.message for stored in letters],
            incarnation=letters[0].letter.incarnation,
            letters=[stored.entry for stored in letters],
        )
        if not taken and len(letters) > 1 and self._per_item:
            for stored in letters:
                own = window_id if keeps_places else f"{window_id}~{stored.entry}"
                await self._reopen(own, origin, [stored], keeps_places=keeps_places)
            return
        self.result.windows += bool(taken)
        await self._count("letters", len(letters) if taken else 0, len(letters))

    async def _count(self, name: str, number: int, of: int) -> None:
        """So many letters came to this end, the others of them were gone; then keep to the rate."""
        setattr(self.result, name, getattr(self.result, name) + number)
        self.result.gone += of - number
        self._progress(of)
        if self._rate is not None:
            ahead_s = self.result.total / self._rate - (time.monotonic() - self._started)
            await asyncio.sleep(max(0.0, ahead_s))

    async def _wait_for_room(self) -> None:
        """Let workers catch up: redriving keeps to the limits that pulling keeps to."""
        claims = PartitionClaims(self._store, self._scope)
        limit = self._task.limits.max_pending_windows
        while await claims.waiting() >= limit:  # noqa: ASYNC110
            await asyncio.sleep(_POLL_S)


def _bounds(spec: WindowSpec, time_ms: int) -> tuple[int | None, int | None]:
    """The bounds of the window that an item of this time would open."""
    if isinstance(spec, TumblingWindow | SlidingWindow):
        step = to_ms(spec.size if isinstance(spec, TumblingWindow) else spec.slide)
        start_ms = time_ms - time_ms % step
        return start_ms, start_ms + to_ms(spec.size)
    if isinstance(spec, SessionWindow):
        return time_ms, time_ms + to_ms(spec.gap)
    return None, None
