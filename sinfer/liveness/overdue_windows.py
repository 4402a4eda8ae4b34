"""Windows that wait too long are told in the log, by whoever sends them on: ingestors and beat."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence

from sinfer.liveness.absences import BUSY_MS, missing_beat, missing_worker
from sinfer.logging.throttled import Throttled
from sinfer.products.registry import modules_with
from sinfer.settings import settings
from sinfer.store.boards.pauses import PauseBoard
from sinfer.store.boards.running_processes import PresenceBoard, Present
from sinfer.store.boards.unavailable import OutageBoard
from sinfer.store.connection import Store
from sinfer.store.partition.backlog import Waiting, overdue_ms, waiting
from sinfer.store.schedule import Schedule
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)

_LOOK_S = 10.0
_BEGIN_S = 10.0
"""Processes that start together need so long to find each other."""

_BEAT = ""
"""Stands for what is missing for all products."""

_TAKEN, _OVER = "closed windows are taken again", "beat's ticks come through again"

TOO_LONG_MS = 5_000
"""So long a window may wait where no worker listens."""


class Overdue:
    """Looks for such windows now and then, and tells of them once a minute."""

    def __init__(self) -> None:
        self._modules: dict[str, list[str]] = {}
        self._looked_s = time.monotonic() + _BEGIN_S - _LOOK_S
        self._overdue: defaultdict[str, Throttled] = defaultdict(lambda: Throttled(_log))

    async def look(self, store: Store, scopes: Sequence[Scope] | None = None) -> None:
        """Look, unless that was done a moment ago.

        Args:
            store: the window store.
            scopes: which partitions to look at; all by default.

        Raises:
            UnavailableError: Redis cannot be reached.
        """
        now_s = time.monotonic()
        if now_s < self._looked_s + _LOOK_S:
            return
        self._looked_s = now_s
        if scopes is None:
            scopes = await Schedule(store).partitions()
        found = await self._find(store, scopes)
        for name, text in found.items():
            self._overdue[name].tell(text)
        for name, overdue in self._overdue.items():
            if name not in found:
                overdue.over(_OVER if name == _BEAT else f"product {name}: {_TAKEN}")

    async def _find(self, store: Store, scopes: Sequence[Scope]) -> dict[str, str]:
        """What to tell, by product, or by what is missing for all of them."""
        late = {
            scope: found
            for scope, found in (await waiting(store, scopes)).items()
            if found.oldest_ms > TOO_LONG_MS
        }
        is_due = bool(scopes) and await overdue_ms(store) > TOO_LONG_MS
        if not late and not is_due:
            return {}
        present = await PresenceBoard(store).read()
        found: dict[str, str] = {}
        if is_due and (beat := missing_beat(present, settings().tick.total_seconds())):
            found[_BEAT] = beat
        products: defaultdict[str, dict[Scope, Waiting]] = defaultdict(dict)
        for scope, waits in late.items():
            products[scope.product][scope] = waits
        board = PauseBoard(store)
        await board.refresh()
        for product, of_product in products.items():
            running = {s: w for s, w in of_product.items() if board.of(product, s.task) is None}
            if running and (text := await self._why(store, product, running, present)):
                found[product] = text
        return found

    async def _why(
        self, store: Store, product: str, waits: dict[Scope, Waiting], present: Present
    ) -> str:
        if product not in self._modules:  # to find out may load its code
            self._modules[product] = modules_with(product, settings().products)
        if missing := missing_worker(product, present, self._modules[product]):
            return f"product {product}: closed windows wait: {missing}"
        busy = [scope for scope, found in waits.items() if found.oldest_ms > BUSY_MS]
        for scope in busy:
            if not await OutageBoard(store, scope).read():
                return (
                    f"product {product}: closed windows of {scope.task} have waited for more than"
                    f" {BUSY_MS // 1000} s, though workers listen: they are busy or held up; see"
                    f" `sinfer status --product {product}`"
                )
        return ""
