"""Faults of product code: a message comes on which a hook raises, ends its process, or blocks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from tests.chaos.faults import Fault, World
from tests.chaos.messages import FIRST_POISON, poison
from tests.support.until import until

_PATIENCE_S = 30.0
WORKER_ACTS = ("raises", "ends", "exits", "segfaults", "blocks")


def meets(hook: str, act: str) -> Callable[[World], AbstractAsyncContextManager[str]]:
    """Some task gets a message on which a hook does something that it should not."""

    @asynccontextmanager
    async def breaks(world: World) -> AsyncIterator[str]:
        task = world.random.choice(world.site.tasks)
        poisons = world.site.poisons[task.id]
        number = FIRST_POISON + len(poisons)
        poisons[number] = act
        client = await world.site.connect()
        try:
            data = poison(number, hook, act, world.load.now(task.id))
            await _publish(client.jetstream(timeout=2.0), task.subject, number, data)
        finally:
            await client.close()
        yield f"{hook} of {task.id}"

    return breaks


async def _publish(jetstream: object, subject: str, number: int, data: bytes) -> None:
    """Publish until the server has it, which knows copies."""

    async def is_taken() -> bool:
        with suppress(NatsError, JetStreamError, OSError, asyncio.TimeoutError):
            await jetstream.publish(  # type: ignore[attr-defined]
                subject, data, headers={"Nats-Msg-Id": str(number)}
            )
            return True
        return False

    await until(is_taken, "NATS to take a message", _PATIENCE_S)


WORKER_HOOK_FAULTS = tuple(
    Fault(
        f"hook: {hook} {act}",
        meets(hook, act),
        0.3,
        is_timed=False,
        # Which item it is that ends workers is found by halving its window, over many deaths.
        is_slow=act in ("exits", "segfaults", "blocks"),
    )
    for hook in ("build_request", "build_results")
    for act in WORKER_ACTS
)
INGEST_HOOK_FAULTS = tuple(
    Fault(f"hook: preprocess {act}", meets("preprocess", act), 0.3, is_timed=False)
    for act in ("raises", "ends", "exits", "segfaults", "blocks")
)
HOSTILE_FAULTS = (*WORKER_HOOK_FAULTS, *INGEST_HOOK_FAULTS)
