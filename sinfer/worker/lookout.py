"""Finding windows that no hint tells of: at the start of a process, and when its hints are old."""

from __future__ import annotations

import random
import time

from sinfer.windows.ids import Scope
from sinfer.worker.claim_loop import drain, work_on
from sinfer.worker.runtime import Runtime
from sinfer.worker.slots import AT_ONCE

_OLD_HINTS = 16
"""After so many hints in a row that led to no window the store is asked."""

_LOOK_AGAIN_S = 2.0


async def follow_hint(runtime: Runtime, scope: Scope, hinted: int) -> bool:
    """Do as a Celery message says; see ``drain``."""
    has_begun = await drain(runtime, scope, hinted)
    if runtime.old_hints >= _OLD_HINTS:
        look_around(runtime)
    return has_begun


def look_around(runtime: Runtime) -> None:
    """Begin with what is ready in the store, unless that was done just now."""
    now_s = time.monotonic()
    if not runtime.closing and now_s - runtime.looked_s >= _LOOK_AGAIN_S:
        runtime.looked_s, runtime.old_hints = now_s, 0
        runtime.begin(_begin_what_is_ready(runtime), "looking for windows")


async def _begin_what_is_ready(runtime: Runtime) -> None:
    """Partitions of the products whose queues this worker serves; others see to the rest."""
    scopes = [
        scope
        for scope in await runtime.schedule.partitions()
        if runtime.host.serves(scope.product) and scope not in runtime.partitions
    ]
    random.shuffle(scopes)
    for scope in await runtime.schedule.ready(scopes, AT_ONCE):
        if runtime.closing:
            return
        work_on(runtime, scope)
