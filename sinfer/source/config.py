"""The ``source:`` part of a task: which messages of which JetStream stream."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from sinfer.config.model import ConfigModel
from sinfer.config.secret import KEPT
from sinfer.config.units import unit
from sinfer.nats.config import JetStreamPart
from sinfer.nats.subjects import overlap


class StartSequence(ConfigModel):
    """Start at a stream sequence."""

    seq: int = Field(ge=1, json_schema_extra=unit("stream sequence"))
    """The first message that is read."""


class StartTime(ConfigModel):
    """Start at a point in time (ISO 8601)."""

    time: datetime
    """Messages from then on are read."""


class JetStreamSource(JetStreamPart):
    """The ``source:`` part of a task: which messages of which JetStream stream."""

    stream: str = Field(min_length=1, max_length=255, pattern=r"^[^\s.*>/\\]+$")
    """The stream's name; it has to exist."""
    subject: str | None = None
    """Which of the stream's subjects; all by default. Wildcards ``*`` and ``>`` are allowed."""
    durable: str | None = Field(default=None, pattern=r"^[^\s.*>/\\]+$")
    """A durable consumer: bound when it exists, else created. Without one, the position is kept in
    Redis alone, which is the fastest way and needs a stream with limits retention."""
    deliver: Literal["all", "new"] | StartSequence | StartTime = "all"
    """Where a task starts that has no position yet."""
    ack: Literal["stored", "done"] = "stored"
    """When a message is acknowledged: once it is stored in Redis, or once its window is done."""
    partitions: list[str] | None = Field(default=None, min_length=1)
    """Subjects that are read independently of each other, each by one ingestor at a time."""
    batch: int = Field(default=500, ge=1, le=10_000, json_schema_extra=unit("messages"))
    """Most messages in one pull request and in one commit."""

    @field_validator("subject", "partitions")
    @classmethod
    def _subjects(cls, value: str | list[str] | None) -> str | list[str] | None:
        for subject in [value] if isinstance(value, str) else value or []:
            if (
                not subject
                or any(not t or t.isspace() for t in subject.split("."))
                or (">" in subject.split(".")[:-1] or " " in subject)
            ):
                raise ValueError(f"{subject!r} is no NATS subject")
        return value

    @model_validator(mode="after")
    def _partitions(self, info: ValidationInfo) -> Self:
        if self.partitions is not None:
            if self.subject is not None:
                raise ValueError("give either subject or partitions, not both")
            if info.context != KEPT:
                _check_apart(self.partitions)
        return self

    @property
    def partition_subjects(self) -> list[str]:
        """The subject filter of each partition; ``>`` stands for the whole stream."""
        return self.partitions if self.partitions is not None else [self.subject or ">"]


def _check_apart(partitions: Sequence[str]) -> None:
    """Refuse partitions of which two would read the same messages.

    Raises:
        ValueError: two overlap; the text names both.
    """
    known: set[str] = set()
    for subject in partitions:
        if subject in known:
            raise ValueError(f"partitions name {subject!r} twice; leave one of them out")
        known.add(subject)
    for pattern in partitions:
        if "*" not in pattern and ">" not in pattern:
            continue  # plain subjects overlap only where they are equal
        for other in partitions:
            if other != pattern and overlap(pattern, other):
                raise ValueError(
                    f"partitions {pattern!r} and {other!r} overlap: what both match would be"
                    " processed twice; leave one of them out, or narrow it"
                )
