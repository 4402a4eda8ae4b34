"""``python -m sinfer.local.make_streams PRODUCT``: make the streams that its tasks need.

A program of its own, so that `sinfer up` can run it again when the product's code has changed.
"""

from __future__ import annotations

import asyncio
import sys

from sinfer.errors import ConfigError, SinferError
from sinfer.local.streams import make_streams, needed_streams
from sinfer.nats_connection import connect
from sinfer.products.registry import find_product
from sinfer.products.scenario import demonstration_of
from sinfer.settings import settings


async def _make(name: str) -> None:
    product = find_product(name, settings().products)
    try:
        streams = {k: list(v) for k, v in demonstration_of(product).streams.items()}
    except ConfigError:
        streams = {}
    listed = await product.list_tasks()
    await product.tasks.aclose()
    streams = needed_streams(listed.tasks.values(), streams)
    client = await connect(settings().nats_servers, name="sinfer-up")
    try:
        await make_streams(client.jetstream(), streams, widen=True)
    finally:
        await client.close()


def main() -> None:
    """The command line."""
    try:
        asyncio.run(_make(sys.argv[1]))
    except SinferError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
