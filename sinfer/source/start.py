"""Where reading starts: behind a stored state, if the stream is still the same, or as the task
says."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sinfer.errors import StreamResetError
from sinfer.nats.jetstream_types import StreamInfo
from sinfer.source.checkpoint import Checkpoint
from sinfer.source.config import JetStreamSource, StartSequence


def check_identity(stream: StreamInfo, state: Checkpoint) -> None:
    """Compare the stream with the one that the state belongs to.

    Raises:
        StreamResetError: it is another one, or was rolled back.
    """
    name = stream.config.name
    if stream.created != state.stream_created:
        raise StreamResetError(
            f"stream {name!r} was deleted and made again: the position belongs to the stream made"
            f" at {state.stream_created}, this one was made at {stream.created}"
        )
    read = max([state.position, *(last for _, last in state.ahead)])
    if stream.state.last_seq < read:
        raise StreamResetError(
            f"stream {name!r} was rolled back: messages up to sequence {read} are stored, but the"
            f" stream ends at {stream.state.last_seq}"
        )


def start_of(source: JetStreamSource) -> dict[str, Any]:
    """The source's ``deliver`` as settings of a consumer."""
    deliver = source.deliver
    if isinstance(deliver, str):
        return {"deliver_policy": deliver}
    if isinstance(deliver, StartSequence):
        return after(deliver.seq - 1)
    return {"deliver_policy": "by_start_time", "opt_start_time": _rfc3339(deliver.time)}


def after(position: int) -> dict[str, Any]:
    """Settings of a consumer that starts behind a stream sequence."""
    return {"deliver_policy": "by_start_sequence", "opt_start_seq": position + 1}


def _rfc3339(time: datetime) -> str:
    aware = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
