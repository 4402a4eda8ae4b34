"""Choosing the way to read a partition, by the stream's retention and the durable named.

| stream's retention     | durable              | ack: stored         | ack: done      |
| ---------------------- | -------------------- | ------------------- | -------------- |
| limits                 | none named           | by position         | derived durable |
| workqueue, interest    | none named           | derived durable     | derived durable |
| any                    | named, missing       | made, explicit acks | made, explicit acks |
| any                    | exists, explicit     | ack each            | ack each when done |
| any                    | exists, all          | ack the highest     | refused |
| limits                 | exists, none         | by position         | refused |
| workqueue, interest    | exists, none         | refused             | refused |

A derived durable is named ``sinfer_`` and the partition's name. It stays when the task is removed,
as a durable does; on streams with workqueue or interest retention it then holds messages back.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from nats.aio.client import Client

from sinfer.errors import SourceError
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.jetstream_types import ConsumerConfig, ConsumerInfo, StreamInfo
from sinfer.nats.subjects import consumer_name, overlap
from sinfer.source.acks import Acks, AcksThrough, AcksWhenDone
from sinfer.source.config import JetStreamSource
from sinfer.source.consumer_check import check_consumer, risks
from sinfer.source.durable import ACK_WAIT_S, DurableSource
from sinfer.source.position import PositionSource
from sinfer.source.pull import PullTiming
from sinfer.source.source import Source, Terms
from sinfer.source.source_partition import SourcePartition
from sinfer.store.boards.consumers import consumer_id
from sinfer.windows.ids import Scope

_log = logging.getLogger(__name__)


def durable_name(source: JetStreamSource, subject_filter: str) -> str | None:
    """The durable that reads a partition: the one named, with the subject where there are several.

    For ``durable: d`` and the partitions ``in.a`` and ``in.b`` these are ``d_in-a`` and ``d_in-b``
    with a checksum behind, as a consumer's name cannot hold the dot.
    """
    if source.durable is None or len(source.partition_subjects) == 1:
        return source.durable
    return consumer_name(source.durable, subject_filter)


async def choose_source(
    client: Client,
    api: JetStreamApi,
    reading: SourcePartition,
    timing: PullTiming | None = None,
) -> Source:
    """Look at the stream and the durable, and choose; the source is not attached yet.

    Args:
        client: the connection.
        api: requests about the stream.
        reading: what is read, and from where on.
        timing: how long requests live and how soon silence is noticed.

    Raises:
        SourceError: they cannot be read as the source asks for.
        UnavailableError: not now.
    """
    timing = timing or PullTiming()
    source, subject_filter = reading.source, reading.subject
    stream = await api.stream_info()
    await _check_subject(api, stream, subject_filter)
    retention = stream.config.retention
    durable = durable_name(source, subject_filter)
    why = "a durable is named"
    if durable is None:
        if retention == "limits" and source.ack == "stored":
            text = (
                "position: without acknowledgements, by the stored position alone (the stream has"
                " limits retention and no durable is named)"
            )
            return PositionSource(client, api, reading, terms=Terms(text), timing=timing)
        durable = consumer_name("sinfer", reading.name)
        why = "ack: done needs one" if retention == "limits" else f"{retention} retention needs one"
    info = await api.consumer_info(durable)
    found: tuple[str, ...] = ()
    policy = "explicit"
    origin = "made by sinfer"
    if info is not None:
        check_consumer(source.stream, info, subject_filter)
        found = tuple(risks(source.stream, info, source.ack))
        policy = info.config.ack_policy or policy
        origin = f"exists, ack policy {policy}"
    if info is not None and policy == "none":
        _check_unacknowledged(source, info, retention)
        behind = info.delivered.stream_seq
        text = (
            f"position: without acknowledgements, by the stored position alone; durable {durable!r}"
            f" has ack policy none, so only its filter and its place (sequence {behind}) are used"
        )
        narrow = info.config.filters
        if len(narrow) == 1:
            reading = replace(reading, subject=narrow[0])
        terms = Terms(text, risks=found)
        return PositionSource(client, api, reading, start_behind=behind, terms=terms, timing=timing)
    if source.ack == "done" and policy != "explicit":
        raise SourceError(
            f"consumer {durable!r} of stream {source.stream!r} has ack policy {policy!r}, but"
            " source.ack: done needs 'explicit'; name another source.durable or use ack: stored"
        )
    acks = _acks(client, source, policy, info.config if info is not None else ConsumerConfig())
    when = "done" if source.ack == "done" else "stored"
    text = f"durable {durable!r} ({why}; {origin}): messages are acknowledged when {when}"
    consumer = consumer_id(stream.config.name, stream.created, durable)
    return DurableSource(
        client,
        api,
        reading,
        durable=durable,
        acks=(acks, policy),
        terms=Terms(text, risks=found, consumer=consumer),
        timing=timing,
    )


async def _check_subject(api: JetStreamApi, stream: StreamInfo, subject_filter: str) -> None:
    """Servers accept a filter that nothing can ever match, and then nothing comes."""
    subjects = stream.config.subjects
    if not subjects or any(overlap(subject_filter, subject) for subject in subjects):
        return
    if await api.next_message(0, [subject_filter]) is None:
        raise SourceError(
            f"stream {stream.config.name!r} has no messages on {subject_filter}: its subjects are"
            f" {', '.join(subjects)}; correct source.subject, or add the subject to the stream"
        )


def held_by_other(stream: str, consumer: str, other: Scope, *, is_read: bool = True) -> SourceError:
    """The error for a durable that a task of this or another product reads already, or names."""
    name, task = consumer.partition("/")[2], f"{other.product}/{other.task}"
    how = f"is read by task {task} already" if is_read else f"is named by task {task} as well"
    return SourceError(
        f"consumer {name!r} of stream {stream!r} {how}, and each of the two would get only a part"
        " of the messages; name another source.durable, or remove that task"
    )


def _acks(client: Client, source: JetStreamSource, policy: str, config: ConsumerConfig) -> Acks:
    if policy == "all":
        return AcksThrough(client)
    if source.ack == "stored":
        return Acks(client)
    shortest_s = min(config.waits_ns) / 1e9 if config.waits_ns else ACK_WAIT_S
    return AcksWhenDone(client, shortest_s)


def _check_unacknowledged(source: JetStreamSource, info: ConsumerInfo, retention: str) -> None:
    where = f"consumer {info.name!r} of stream {source.stream!r} has ack policy 'none'"
    if source.ack == "done":
        raise SourceError(
            f"{where}, but source.ack: done needs 'explicit'; name another source.durable"
        )
    if retention != "limits":
        raise SourceError(
            f"{where}, and with {retention} retention its messages are removed before they are"
            " stored; name another source.durable"
        )
    if len(info.config.filters) > 1:
        raise SourceError(
            f"{where} and several filter_subjects; name another source.durable, or list the"
            " subjects as source.partitions"
        )
