"""From messages to entries: a product's preprocess, key and event time, and what they refuse."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any

from sinfer.errors import ConfigError, InvalidItemError
from sinfer.hooks.call import reason_of
from sinfer.ingest.work_in_hand import Hand
from sinfer.products.pipeline import DEFAULT_KEY, InferPipeline
from sinfer.types.message import UNREADABLE, Message
from sinfer.windows.dead_letters import DeadLetter
from sinfer.windows.event_time import checked_event_time_ms
from sinfer.windows.item_key import checked_key
from sinfer.windows.plan import Entry

Preparing = Callable[[Sequence[Message], int], Awaitable["Prepared"]]
"""Prepares the first of some messages at a time in milliseconds, in a way of its own."""

SLICE_S = 0.05
"""Hooks are called for about so long before the process does something else."""

SLICE_BYTES = 32 * 1024 * 1024
"""More payload is not prepared at once, so that no command to Redis grows out of bounds."""


@dataclass(slots=True)
class Prepared:
    """Messages after the product has looked at them.

    Attributes:
        entries: what goes into windows.
        dead: what was given up, with the reason.
        filtered: how many messages ``preprocess`` filtered out.
        count: how many messages it was given, from the first.
    """

    entries: list[Entry] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    filtered: int = 0
    count: int = 0

    def add(self, more: Prepared) -> None:
        """Append what became of the messages behind these."""
        self.entries += more.entries
        self.dead += more.dead
        self.filtered += more.filtered
        self.count += more.count

    def part(self, messages: Sequence[Message]) -> Prepared:
        """What became of some of the messages: each is an entry, dead or filtered out."""
        wanted = {id(message) for message in messages}
        entries = [entry for entry in self.entries if id(entry.message) in wanted]
        dead = [letter for letter in self.dead if id(letter.message) in wanted]
        filtered = len(messages) - len(entries) - len(dead)
        return Prepared(entries, dead, filtered, len(messages))


class Preparer:
    """Runs a pipeline's pure hooks over messages. Whatever they raise or return that is of no use
    makes a dead letter of its message alone.

    Args:
        pipeline: the product's code, made for the task.
        hand: where to note what is being called.
    """

    def __init__(self, pipeline: InferPipeline[Any, Any], hand: Hand | None = None) -> None:
        self._pipeline = pipeline
        self._hand = hand or Hand()
        task = pipeline.task
        self._limits = task.limits
        if task.window.dedupe is not None and not pipeline.overrides("item_id"):
            raise ConfigError(
                f"task {task.id!r}: window.dedupe needs a pipeline with item_id(); add it to"
                f" {type(pipeline).__name__} or remove dedupe"
            )
        self._by_key = pipeline.overrides("key")
        self._event_time = task.window.time == "event"
        self._own_time = pipeline.overrides("event_time")
        self._max_future = task.window.max_future
        self._max_bytes = int(task.limits.max_message_bytes)

    def prepare(self, messages: Sequence[Message], now_ms: int) -> Prepared:
        """Make entries of all messages, however long that takes."""
        return self.prepare_some(messages, now_ms, math.inf, math.inf)

    def prepare_some(
        self,
        messages: Sequence[Message],
        now_ms: int,
        budget_s: float = SLICE_S,
        budget_bytes: float = SLICE_BYTES,
    ) -> Prepared:
        """Make entries of the first messages.

        Args:
            messages: at least one is looked at.
            now_ms: the store's clock, milliseconds since the epoch.
            budget_s: begin with no further message after so many seconds.
            budget_bytes: nor after so much payload.
        """
        prepared = Prepared()
        entries, dead, hand, pipeline = prepared.entries, prepared.dead, self._hand, self._pipeline
        simple = not self._by_key and not self._event_time
        max_bytes, monotonic = self._max_bytes, time.monotonic
        count = filtered = size = 0
        hand.hook = "preprocess"
        hand.since_s = began_s = monotonic()
        until_s = began_s + budget_s
        try:
            for count, message in enumerate(messages, 1):  # noqa: B007
                hand.message = message
                length = len(message.data)
                size += length
                try:
                    if length > max_bytes:
                        raise InvalidItemError(
                            f"payload of {length} bytes is above"
                            f" limits.max_message_bytes ({max_bytes})"
                        )
                    item = pipeline.preprocess(
                        message if message.headers is None else _own(message)
                    )
                    if item is None:
                        filtered += 1
                    elif type(item) is CoroutineType:
                        item.close()
                        raise InvalidItemError("preprocess is async; make it a plain function")
                    elif simple:
                        entries.append(Entry(message, DEFAULT_KEY, 0, item))
                    else:
                        entries.append(self._entry(message, item, now_ms, hand))
                except BaseException as error:  # a product's own code
                    reason = reason_of(error)
                    if hand.hook != "preprocess" and not isinstance(error, InvalidItemError):
                        reason = f"{hand.hook}: {reason}"
                    hand.hook = "preprocess"
                    dead.append(DeadLetter(message, "preprocess", reason, now_ms))
                if monotonic() >= until_s or size >= budget_bytes:
                    break
        finally:
            hand.since_s = 0.0
            hand.message = None
        prepared.filtered, prepared.count = filtered, count
        return prepared

    def _entry(self, message: Message, item: Any, now_ms: int, hand: Hand) -> Entry:
        key = DEFAULT_KEY
        if self._by_key:
            hand.hook = "key"
            key = checked_key(self._pipeline.key(item), self._limits.max_key_length)
        time_ms = 0
        if self._event_time:
            hand.hook = "event_time"
            seconds = self._pipeline.event_time(item) if self._own_time else None
            time_ms = checked_event_time_ms(
                message.timestamp if seconds is None else seconds, now_ms, self._max_future
            )
        hand.hook = "preprocess"
        return Entry(message, key, time_ms, item)


def _own(message: Message) -> Message:
    """A copy for the product: what it changes in the headers is not what is stored.

    Raises:
        InvalidItemError: the message was not read in full.
    """
    headers = dict(message.headers or {})
    if UNREADABLE in headers:
        raise InvalidItemError(headers[UNREADABLE])
    return Message(message.data, message.subject, headers, message.stream_seq, message.timestamp_ns)
