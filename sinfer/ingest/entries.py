"""From messages to entries: a product's preprocess, key and event time, and what they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from sinfer.errors import ConfigError, InvalidItemError
from sinfer.messages import Message
from sinfer.products.pipeline import DEFAULT_KEY, InferPipeline
from sinfer.windows.dead_letters import DeadLetter, Stage, one_line
from sinfer.windows.event_time import checked_event_time_ms
from sinfer.windows.item_key import checked_key
from sinfer.windows.plan import Entry


def error_line(error: BaseException) -> str:
    """An error in one line of bounded length, for dead letters and logs."""
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_input=False)
        text = "; ".join(
            f"{'.'.join(str(part) for part in detail['loc']) or 'message'}: {detail['msg']}"
            for detail in details[:5]
        )
    elif isinstance(error, InvalidItemError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return one_line(text)


@dataclass(slots=True)
class Prepared:
    """A batch after the product has looked at it.

    Attributes:
        entries: what goes into windows.
        dead: what was given up, with the reason.
        filtered: how many messages ``preprocess`` filtered out.
    """

    entries: list[Entry] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    filtered: int = 0


class Preparer:
    """Runs a pipeline's pure hooks over batches of messages."""

    def __init__(self, pipeline: InferPipeline[Any, Any]) -> None:
        self._pipeline = pipeline
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
        """Make entries of messages. Whatever a hook raises dead-letters its message alone."""
        prepared = Prepared()
        preprocess = self._pipeline.preprocess
        simple = not self._by_key and not self._event_time
        for message in messages:
            try:
                if len(message.data) > self._max_bytes:
                    raise InvalidItemError(
                        f"payload of {len(message.data)} bytes is above"
                        f" limits.max_message_bytes ({self._max_bytes})"
                    )
                item = preprocess(message)
                if item is None:
                    prepared.filtered += 1
                    continue
                if simple:
                    prepared.entries.append(Entry(message, DEFAULT_KEY, 0, item))
                else:
                    prepared.entries.append(self._entry(message, item, now_ms))
            except Exception as error:
                prepared.dead.append(self._dead(message, "preprocess", error_line(error), now_ms))
        return prepared

    def _entry(self, message: Message, item: Any, now_ms: int) -> Entry:
        key = DEFAULT_KEY
        if self._by_key:
            key = checked_key(self._pipeline.key(item), self._limits.max_key_length)
        time_ms = 0
        if self._event_time:
            seconds = self._pipeline.event_time(item) if self._own_time else None
            time_ms = checked_event_time_ms(
                message.timestamp if seconds is None else seconds, now_ms, self._max_future
            )
        return Entry(message, key, time_ms, item)

    def _dead(self, message: Message, stage: Stage, error: str, now_ms: int) -> DeadLetter:
        return DeadLetter(message, stage, error, now_ms)
