"""Publish sample messages: ``python -m sinfer.products.example.publish --messages 1000``.

It also makes the two streams that the example reads and writes, where they are missing.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from sinfer.errors import SinferError
from sinfer.nats.connection import connect
from sinfer.nats.whereabouts import errors_told
from sinfer.products.example.data import STREAMS, SUBJECT, messages
from sinfer.settings import settings


async def publish(count: int, first_id: int = 0) -> None:
    """Make the streams, and publish ``count`` messages whose ids start at ``first_id``.

    Raises:
        UnavailableError: NATS cannot be reached.
        SourceError: JetStream refuses a stream.
    """
    client = await connect(settings().nats_place, name="sinfer-example-publish")
    try:
        jetstream = client.jetstream()
        async with errors_told(client, f"the streams and {SUBJECT}"):
            for name, subjects in STREAMS.items():
                await jetstream.add_stream(name=name, subjects=subjects)
            for data in messages(count, first_id):
                await jetstream.publish(SUBJECT, data)
    finally:
        await client.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Publish sample messages to the example.")
    parser.add_argument("--messages", type=int, default=1000, help="how many (default: 1000)")
    parser.add_argument("--first-id", type=int, default=0, help="id of the first (default: 0)")
    arguments = parser.parse_args()
    try:
        asyncio.run(publish(arguments.messages, arguments.first_id))
    except SinferError as error:
        sys.exit(f"Error: {error}")
    print(f"published {arguments.messages} messages on {SUBJECT}")


if __name__ == "__main__":
    main()
