"""Whether a consumer that exists already can be read for a task."""

from __future__ import annotations

import logging

from sinfer.errors import SourceError
from sinfer.ingest.jetstream_types import ConsumerInfo
from sinfer.ingest.subjects import EVERYTHING, covers

_log = logging.getLogger(__name__)


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


def warn_of_limits(stream: str, info: ConsumerInfo) -> None:
    """Log the settings of a consumer that can lose messages."""
    config = info.config
    if config.max_deliver is not None and config.max_deliver > 0:
        _log.warning(
            "consumer %s of stream %s has max_deliver %d: messages that were delivered so often"
            " without being stored are lost; set it to -1", info.name, stream, config.max_deliver,
        )  # fmt: skip
    if config.headers_only:
        _log.warning(
            "consumer %s of stream %s has headers_only: payloads are empty", info.name, stream
        )
