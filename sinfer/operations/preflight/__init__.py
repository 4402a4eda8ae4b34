"""Preflight: whether everything that tasks need is there and fits, before anything starts.

All is asked at once, each server for each thing once, and nothing is changed anywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence

from sinfer.hooks.call import describe
from sinfer.operations.preflight.findings import Finding
from sinfer.operations.preflight.readers import Readers
from sinfer.operations.preflight.servers import check_broker, check_store
from sinfer.operations.preflight.task import Shared, TaskCheck
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.store.connection import Store


async def preflight(
    store: Store,
    tasks: Iterable[tuple[Product, InferTaskConfig]],
    others: Sequence[tuple[Product, InferTaskConfig]] = (),
) -> AsyncIterator[Finding]:
    """Check the servers and the tasks; findings come in that order.

    Args:
        store: the window store.
        tasks: what to check, with the products that they belong to.
        others: all tasks that are known: two that name one durable are told.
    """
    shared = Shared(store=store, readers=Readers(store, others))
    servers = [asyncio.create_task(_store(store)), asyncio.create_task(_broker())]
    checks = [TaskCheck(shared, product, task) for product, task in tasks]
    running = [*servers, *(asyncio.create_task(_task(check)) for check in checks)]
    try:
        for found in running:
            for finding in await found:
                yield finding
    finally:
        for found in running:
            found.cancel()
        await shared.connections.aclose()


async def _store(store: Store) -> list[Finding]:
    return [finding async for finding in check_store(store)]


async def _broker() -> list[Finding]:
    return [await check_broker()]


async def _task(check: TaskCheck) -> list[Finding]:
    """The findings of one task; whatever goes wrong there hides no other task."""
    try:
        return await check.run()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        return [Finding(check.name, "error", f"could not be checked: {describe(error)}")]
