"""What people do in the middle of it all: redrive dead letters, run finished windows again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.js.api import RetentionPolicy

from sinfer.errors import SinferError
from sinfer.operations.redrive import Redrive
from sinfer.operations.rerun import rerun
from sinfer.store.history.dead_letter_store import LetterFilter
from sinfer.store.history.ledger import read_ledger
from tests.chaos import product
from tests.chaos.faults import Fault, World
from tests.chaos.messages import number_of

_LOOK_AT = 50


@asynccontextmanager
async def redriven(world: World) -> AsyncIterator[str]:
    """All dead letters of a task are redriven, whatever else is going on."""
    task = world.random.choice(world.site.tasks)
    try:
        pipeline = product.ChaosPipeline(world.site.config(task))
        result = await Redrive(world.progress.store, task.scope, pipeline).run(LetterFilter())
        word = f"{task.id}: {result.total} letters"
    except SinferError as error:
        word = f"{task.id}: {error}"
    yield word


@asynccontextmanager
async def run_again(world: World) -> AsyncIterator[str]:
    """A finished window is run again; what it writes replaces what it wrote."""
    site, store = world.site, world.progress.store
    task = world.random.choice([t for t in site.tasks if t.retention is RetentionPolicy.LIMITS])
    word = f"{task.id}: nothing is done yet"
    try:
        found = []
        async for finished in read_ledger(store, task.scope):
            if finished.entry.kind == "first":
                found.append(finished)
            if len(found) >= _LOOK_AT:
                break
        if found:
            chosen = world.random.choice(found)
            client = await site.connect()
            try:
                messages = await client.jetstream().get_msg(task.id, chosen.entry.first_seq)
                site.rerun[task.id].update(chosen.entry.sequences)
                await rerun(store, client, chosen, site.config(task))
                word = f"{chosen.entry.window} from message {number_of(messages.data or b'')}"
            finally:
                await client.close()
    except Exception as error:  # a server that another fault took away
        word = f"{task.id}: {type(error).__name__}: {error}"
    yield word


OPERATOR_FAULTS = (
    Fault("redrive", redriven, 2.0, 0.0, 0.5),
    Fault("rerun", run_again, 2.0, 0.0, 0.5),
)
