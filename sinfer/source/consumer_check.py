"""Whether a consumer that exists already can be read for a task."""

from __future__ import annotations

from typing import Literal

from sinfer.errors import ConfigError, SourceError
from sinfer.nats.jetstream_types import ConsumerInfo
from sinfer.nats.subjects import EVERYTHING, covers
from sinfer.products.task import InferTaskConfig

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


def check_budget(task: InferTaskConfig, max_ack_pending: int | None) -> str:
    """With ``ack: done`` the server delivers no more than so many unfinished messages.

    Args:
        task: whose windows have to do with that.
        max_ack_pending: of the consumer; None or less than 0 for any number.

    Returns:
        What that means, for people; empty when there is no limit.

    Raises:
        ConfigError: not even one window could become full.
    """
    if task.source.ack != "done" or max_ack_pending is None or max_ack_pending < 0:
        return ""
    largest = task.window.largest
    if largest is not None and largest > max_ack_pending:
        raise ConfigError(
            f"windows of {largest} messages never become full, since the consumer allows"
            f" {max_ack_pending} unacknowledged messages; raise its max_ack_pending"
        )
    return f"all unfinished windows together hold at most {max_ack_pending} messages"
