"""The JetStream streams that a product's tasks need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from sinfer.nats.subjects import EVERYTHING, covers
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.jetstream.sink import JetStreamSink

RESULTS = "RESULTS"
"""The stream that takes results which no other stream takes."""


def needed_streams(
    tasks: Iterable[InferTaskConfig], known: Mapping[str, Sequence[str]] | None = None
) -> dict[str, list[str]]:
    """Streams and their subjects, so that tasks can read and their sinks can write.

    A task that names no subject gets ``<stream>.>``, in small letters.

    Args:
        tasks: the tasks.
        known: streams that there are in any case; they are among those returned.
    """
    streams = {name: list(subjects) for name, subjects in (known or {}).items()}
    tasks = list(tasks)
    for task in tasks:
        source = task.source
        for subject in source.partition_subjects:
            if subject != EVERYTHING:
                _add(streams, source.stream, subject)
            elif not streams.get(source.stream):
                _add(streams, source.stream, f"{source.stream.lower()}.>")
    for task in tasks:
        for sink in [*task.sinks, *([task.fallback] if task.fallback else [])]:
            if isinstance(sink, JetStreamSink.Config) and not _is_taken(streams, sink.subject):
                _add(streams, sink.stream or RESULTS, sink.subject)
    return streams


def _is_taken(streams: Mapping[str, Sequence[str]], subject: str) -> bool:
    return any(covers(known, subject) for subjects in streams.values() for known in subjects)


def _add(streams: dict[str, list[str]], stream: str, subject: str) -> None:
    """Add a subject, unless the stream takes it already; it may in turn cover others."""
    subjects = streams.setdefault(stream, [])
    if not any(covers(known, subject) for known in subjects):
        subjects[:] = [known for known in subjects if not covers(subject, known)]
        subjects.append(subject)


async def make_streams(
    jetstream: JetStreamContext, streams: Mapping[str, Sequence[str]], *, widen: bool = False
) -> list[str]:
    """Make the streams that are missing.

    Args:
        jetstream: where.
        streams: their subjects, by name.
        widen: add subjects that a stream of that name lacks.

    Returns:
        What was done, for people.
    """
    done = []
    for name, subjects in streams.items():
        try:
            config = (await jetstream.stream_info(name)).config
        except NotFoundError:
            await jetstream.add_stream(name=name, subjects=list(subjects))
            done.append(f"stream {name} is made, with subjects {', '.join(subjects)}")
            continue
        known = config.subjects or []
        lacking = [s for s in subjects if not any(covers(other, s) for other in known)]
        if widen and lacking:
            kept = [s for s in known if not any(covers(other, s) for other in lacking)]
            await jetstream.update_stream(config, subjects=[*kept, *lacking])
            done.append(f"stream {name} takes {', '.join(lacking)} too")
    return done
