"""Whether a consumer that exists already can be read for a task."""

from __future__ import annotations

from typing import Literal

from sinfer.errors import SourceError
from sinfer.nats.jetstream_types import ConsumerInfo
from sinfer.nats.subjects import EVERYTHING, covers

_SHORTEST_ACK_WAIT_NS = 5 * 10**9


def check_consumer(stream: str, info: ConsumerInfo, subject_filter: str) -> None:
    """Refuse a consumer that cannot be pulled from, or delivers other messages than the task's.

    Raises:
        SourceError: with the field that does not fit.
    """
    config = info.config
    where = f"consumer {info.name!r} of stream {stream!r}"
    if config.deliver_subject:
        raise SourceError(
            f"{where} is a push consumer (deliver_subject {config.deliver_subject!r}), and sinfer"
            " pulls; name another source.durable"
        )
    if config.priority_groups:
        raise SourceError(
            f"{where} has priority_groups, which sinfer does not use; name another source.durable"
        )
    if subject_filter != EVERYTHING:
        delivered = config.filters or [EVERYTHING]
        others = [subject for subject in delivered if not covers(subject_filter, subject)]
        if others:
            raise SourceError(
                f"{where} delivers {', '.join(others)} (filter_subject), but source.subject is"
                f" {subject_filter}; set source.subject to what the consumer delivers, or name"
                " another source.durable"
            )


def risks(stream: str, info: ConsumerInfo, ack: Literal["stored", "done"]) -> list[str]:
    """Settings of a consumer that lose messages or have them come again, and what to do."""
    config = info.config
    where = f"consumer {info.name!r} of stream {stream!r}"
    found = []
    if config.max_deliver is not None and config.max_deliver > 0:
        found.append(
            f"{where} has max_deliver {config.max_deliver}: messages that were delivered so often"
            " without being acknowledged are lost; set it to -1"
        )
    if config.headers_only:
        found.append(f"{where} has headers_only: payloads are empty; make it without")
    waits_ns = config.waits_ns
    if ack == "done" and waits_ns and min(waits_ns) < _SHORTEST_ACK_WAIT_NS:
        found.append(
            f"{where} has ack_wait {min(waits_ns) / 1e9:g} s: an ingestor that stands still for so"
            " long gets all unfinished messages again; set ack_wait, and backoff if it is used, to"
            " 30 s"
        )
    return found
