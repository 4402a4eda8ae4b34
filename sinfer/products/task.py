"""One task of a product: where data comes from, how it is windowed, which model, where it goes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Any, Self

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from sinfer.config.model import ConfigModel
from sinfer.config.units import Bytes, Duration, unit
from sinfer.inference.base import InferenceClient, InferenceConfig
from sinfer.nats.config import JetStreamPart
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.source.config import JetStreamSource
from sinfer.windows.specs import WindowSpec

TaskId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$")]
"""Letters, digits and ``_ . : -``, at most 128, the first a letter or digit."""


class Limits(ConfigModel):
    """The ``limits:`` part of a task."""

    max_pending_windows: int = Field(default=1000, ge=1, json_schema_extra=unit("windows"))
    """Stop pulling at so many closed windows that are not done; resume at half of it."""
    max_pending_bytes: Bytes = Field(default="256MiB", validate_default=True, ge=1)
    """Stop pulling likewise when these windows hold more payload than this."""
    max_memory: Bytes | None = Field(default=None, ge=1)
    """Stop pulling when all that is stored of the task, dead letters included, takes more of Redis'
    memory than this. By default a task may take what it needs until Redis is 60 % full; then those
    that take most stop first."""
    max_attempts: int = Field(default=5, ge=1, le=1000, json_schema_extra=unit("attempts"))
    """Dead-letter a window's messages after so many tries. What is unavailable does not count, nor
    do workers that die with it: then the item that they die of is searched for."""
    lease: Duration = Field(default="30s", validate_default=True)
    """How long a worker that went silent keeps its windows."""
    hook_timeout: Duration = Field(default="60s", validate_default=True)
    """Dead-letter a message for which the hooks of the ingestor do not return for so long."""
    max_message_bytes: Bytes = Field(default="8MiB", validate_default=True, ge=1)
    """Dead-letter messages with a larger payload."""
    max_key_length: int = Field(default=256, ge=1, le=4096, json_schema_extra=unit("characters"))
    """Dead-letter items whose key has more characters."""
    max_dead_letters: int | None = Field(default=None, ge=1, json_schema_extra=unit("dead letters"))
    """Remove the oldest dead letters of a partition above so many; by default none ever."""
    max_dead_letter_bytes: Bytes | None = Field(default=None, ge=1)
    """Remove the oldest dead letters of a partition above so much of Redis' memory; by default none
    ever."""
    dead_letter_age: Duration | None = None
    """Remove dead letters that are older; by default none ever."""
    ledger: int = Field(default=1000, ge=0, json_schema_extra=unit("windows"))
    """Finished windows of a partition that ``sinfer windows`` and ``sinfer where`` know of."""

    @model_validator(mode="after")
    def _lease(self) -> Self:
        if self.lease.total_seconds() < 1:
            raise ValueError("lease must be at least 1s")
        if self.hook_timeout.total_seconds() < 1:
            raise ValueError("hook_timeout must be at least 1s")
        if self.dead_letter_age is not None and self.dead_letter_age.total_seconds() < 1:
            raise ValueError("dead_letter_age must be at least 1s")
        return self


class InferTaskConfig(ConfigModel):
    """One task. A product adds its own settings by subclassing."""

    id: TaskId
    """Names the task, in its product: letters, digits and ``_ . : -``, at most 128."""
    source: JetStreamSource
    """Where its messages come from."""
    window: WindowSpec
    """How messages are put into windows, and when these close."""
    inference: Annotated[SerializeAsAny[InferenceConfig], InferenceClient.selected()]
    """Which model is asked, and how."""
    sinks: list[Annotated[SerializeAsAny[SinkConfig], Sink.selected()]] = Field(min_length=1)
    """Where results go; each sink gets all of them."""
    fallback: Annotated[SerializeAsAny[SinkConfig], Sink.selected()] | None = None
    """Takes what a sink refuses for good; without it the messages are dead-lettered."""
    dead_letter_subject: str | None = Field(default=None, pattern=r"^[^\s.*>]+(\.[^\s.*>]+)*$")
    """Copies of dead letters are published here, to the JetStream of the source. With ``ack: done``
    a message that became a dead letter is acknowledged only once its copy is there."""
    limits: Limits = Limits()
    """Bounds of what the task may keep, and for how long."""

    @field_validator("limits", mode="before")
    @classmethod
    def _limits(cls, value: Any) -> Any:
        return {} if value is None else value

    def sink_names(self) -> list[str]:
        """A name for each sink, unique within the task and stable while the order is."""
        return [sink.name or f"{sink.type}-{place}" for place, sink in enumerate(self.sinks)]

    @model_validator(mode="after")
    def _sinks_stay_with_source(self) -> Self:
        """A sink that names no NATS servers writes to those that the task reads from."""
        beside = self.__dict__  # the model itself is frozen
        beside["sinks"] = [self._beside_source(sink) for sink in self.sinks]
        beside["fallback"] = self.fallback and self._beside_source(self.fallback)
        return self

    def _beside_source(self, sink: SinkConfig) -> SinkConfig:
        return sink.beside(self.source) if isinstance(sink, JetStreamPart) else sink

    @model_validator(mode="after")
    def _sink_names_differ(self) -> Self:
        names = self.sink_names()
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"sinks: name {sorted(repeated)[0]!r} is used twice")
        return self

    @model_validator(mode="after")
    def _sinks_keep_apart(self) -> Self:
        """Rows of one sink would replace those of another, which counts as done then."""
        named = list(zip(self.sink_names(), self.sinks, strict=True))
        if self.fallback is not None:
            named.append(("the fallback", self.fallback))
        taken: dict[Hashable, str] = {}
        for name, sink in named:
            place = sink.replaces_in()
            if place is not None and (other := taken.setdefault(place, name)) != name:
                raise ValueError(
                    f"sinks: {other} and {name} write to one table, where each would replace"
                    " the rows of the other; give one of them another table, or leave it out"
                )
        return self
