"""``python -m sinfer.local.make_streams PRODUCT``: make the streams that its tasks need.

With ``--follow`` it stays, and makes those of tasks that come later. With ``--look`` it makes
nothing, and says what is wrong with the product's tasks. A program of its own, so that `sinfer up`
can start it again when the product's code has changed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping

from nats.aio.client import Client

from sinfer.errors import ConfigError, SinferError, SourceError, UnavailableError
from sinfer.local.streams import make_streams, needed_streams
from sinfer.logging.masking import mask
from sinfer.logging.setup import set_up_logging
from sinfer.nats.connection import connect
from sinfer.nats.whereabouts import errors_told
from sinfer.products.managers import StaticTaskManager
from sinfer.products.product import Product
from sinfer.products.registry import find_product
from sinfer.products.scenario import demonstration_of
from sinfer.products.task import InferTaskConfig
from sinfer.products.watch import TaskFollower
from sinfer.products.yaml_tasks import YamlTaskManager
from sinfer.settings import settings

_log = logging.getLogger("sinfer.local.make_streams")


async def _make_once(product: Product) -> None:
    listed = await product.list_tasks()
    await product.close_tasks()
    client = await connect(settings().nats_place, name="sinfer-up")
    try:
        await _make(product, listed.tasks, client)
    finally:
        await client.close()


async def _problems(product: Product) -> list[str]:
    """What is wrong with tasks that can be listed without any server."""
    if not isinstance(product.tasks, StaticTaskManager | YamlTaskManager):
        return []
    listed = await product.list_tasks()
    await product.close_tasks()
    problems = list(listed.problems.values())
    for task in listed.tasks.values():
        try:
            product.make_pipeline(task)
        except ConfigError as error:
            problems.append(str(error))
    return problems


async def _follow(product: Product) -> None:
    follower = TaskFollower(product)
    logging.getLogger(TaskFollower.__module__).disabled = True  # the ingestor says it
    client = await connect(settings().nats_place, name="sinfer-up")
    while True:
        if await follower.refresh():
            try:
                await _make(product, follower.tasks, client)
            except (SourceError, UnavailableError) as error:
                _log.error("streams are not made: %s", error)
        await asyncio.sleep(follower.wait_s)


async def _make(product: Product, tasks: Mapping[str, InferTaskConfig], client: Client) -> None:
    try:
        known = {k: list(v) for k, v in demonstration_of(product).streams.items()}
    except ConfigError:
        known = {}
    streams = needed_streams(tasks.values(), known)
    async with errors_told(client, "the tasks' streams"):
        steps = await make_streams(client.jetstream(), streams, widen=True)
    for step in steps:
        _log.info("%s", step)


def main() -> None:
    """The command line."""
    name, *options = sys.argv[1:] or ["--help"]
    if name.startswith("-"):
        sys.exit("usage: python -m sinfer.local.make_streams PRODUCT [--follow | --look]")
    try:
        product = find_product(name, settings().products)
        if "--follow" in options:
            set_up_logging(settings().log_level, settings().log_format)
            asyncio.run(_follow(product))
        elif "--look" in options:
            if problems := asyncio.run(_problems(product)):
                sys.exit(mask("\n".join(" ".join(problem.split()) for problem in problems)))
        else:
            asyncio.run(_make_once(product))
    except SinferError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
