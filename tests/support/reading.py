"""What tests of sources do with an attachment, and how they get at what lies below it."""

from __future__ import annotations

from typing import Any

from sinfer.nats.inbox import Inbox
from sinfer.source.attachment import Attachment
from sinfer.source.batch import Batch
from sinfer.source.pull import Pull


async def acknowledge(batch: Batch) -> None:
    """A batch is stored."""
    if batch.ack is not None:
        await batch.ack()


def pull_of(reader: Attachment) -> Pull:
    """What asks the consumer for messages."""
    source: Any = reader.source
    pull: Pull = source._pull
    return pull


def inbox_of(reader: Attachment) -> Inbox:
    """Where messages arrive."""
    inbox = pull_of(reader)._inbox
    assert inbox is not None
    return inbox
