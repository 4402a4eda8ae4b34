"""Streams and consumers as the JetStream API describes them: the fields that matter here."""

from __future__ import annotations

import msgspec


class SequencePair(msgspec.Struct):
    """A place in a consumer's deliveries and the stream sequence that belongs to it."""

    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerConfig(msgspec.Struct, omit_defaults=True):
    """The settings of a consumer that matter here, as the server spells them; times in ns."""

    name: str | None = None
    durable_name: str | None = None
    description: str | None = None
    deliver_policy: str | None = None
    opt_start_seq: int | None = None
    opt_start_time: str | None = None
    ack_policy: str | None = None
    ack_wait: int | None = None
    max_deliver: int | None = None
    backoff: list[int] | None = None
    filter_subject: str | None = None
    filter_subjects: list[str] | None = None
    replay_policy: str | None = None
    max_waiting: int | None = None
    max_ack_pending: int | None = None
    headers_only: bool | None = None
    deliver_subject: str | None = None
    inactive_threshold: int | None = None
    max_batch: int | None = None
    max_expires: int | None = None
    max_bytes: int | None = None
    num_replicas: int | None = None
    mem_storage: bool | None = None
    priority_groups: list[str] | None = None
    metadata: dict[str, str] | None = None

    @property
    def filters(self) -> list[str]:
        """The subjects it delivers; empty for all."""
        return self.filter_subjects or ([self.filter_subject] if self.filter_subject else [])

    @property
    def waits_ns(self) -> list[int]:
        """After how long a delivery may come again that is not acknowledged; empty if not told."""
        return [wait for wait in (self.ack_wait, *(self.backoff or [])) if wait]


class ConsumerInfo(msgspec.Struct):
    """A consumer and where it stands."""

    name: str
    created: str
    config: ConsumerConfig
    delivered: SequencePair
    ack_floor: SequencePair
    num_ack_pending: int = 0
    num_pending: int = 0


class ConsumerLimits(msgspec.Struct):
    """What a stream allows its consumers; times in ns."""

    inactive_threshold: int | None = None
    max_ack_pending: int | None = None


class StreamConfig(msgspec.Struct):
    """The settings of a stream that matter here."""

    name: str
    subjects: list[str] = []
    retention: str = "limits"
    storage: str = "file"
    num_replicas: int = 1
    consumer_limits: ConsumerLimits | None = None


class StreamState(msgspec.Struct):
    """The bounds of a stream."""

    messages: int = 0
    first_seq: int = 0
    last_seq: int = 0
    num_deleted: int = 0


class StreamInfo(msgspec.Struct):
    """A stream, its identity and its bounds."""

    config: StreamConfig
    state: StreamState
    created: str
