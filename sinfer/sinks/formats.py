"""What a reader finds of each result, for the reference: by sink, and by name in what it wrote."""

from __future__ import annotations

RESULT_FORMATS: dict[str, dict[str, str]] = {
    "jetstream": {
        "payload": "the result as JSON; one message is one result",
        "Nats-Msg-Id": "header: the idempotency key; of a rerun, with `~` and the number of the run"
        " behind it",
        "Sinfer-Product": "header: the product's name",
        "Sinfer-Task": "header: the task's id",
        "Sinfer-Window": "header: the window's id, revision included",
        "Sinfer-Closed-Ms": "header: when the window closed, milliseconds since the epoch",
        "Sinfer-Replaces": "header, of reruns only: the idempotency key of the result that this one"
        " replaces",
    },
    "sql": {
        "base_id": "product, incarnation, and the window's id without its revision; with `ordinal`"
        " the primary key (`window` in tables of earlier versions)",
        "ordinal": "place of the result in its window, from 0; with `ack: done`, the stream"
        " sequence of its message",
        "revision": "0, or how often late items made the window fire again",
        "attempt": "how often the window was claimed, from 1",
        "window_id": "the window's id, revision included, as `sinfer windows` shows it",
        "task": "the task's id",
        "source_partition": "the partition of the source (`partition` in tables of earlier"
        " versions)",
        "item_key": "what `key` returned for the items of the window (`key` in tables of earlier"
        " versions)",
        "window_start": "start of the window, with time zone; NULL for count windows",
        "window_end": "end of the window, which it does not include; NULL for count windows",
        "close_reason": "why the window closed: count, bytes, time, gap, condition, idle, drain or"
        " deadline",
        "result": "the result as JSON (`JSONB` in PostgreSQL, text in SQLite)",
        "written_at": "when the row was written, with time zone",
    },
    "redis_stream": {
        "id": "the idempotency key; the last entry of an id counts",
        "product": "the product's name",
        "task": "the task's id",
        "window": "the window's id, revision included",
        "revision": "0, or how often late items made the window fire again",
        "data": "the result as JSON",
    },
    "http": {
        "Idempotency-Key": "header: the window's name, the sink, and a checksum of the body",
        "product": "the product's name",
        "task": "the task's id",
        "window": "the window's id, revision included",
        "revision": "0, or how often late items made the window fire again",
        "key": "what `key` returned for the items of the window",
        "start_ms": "start of the window, milliseconds since the epoch; null for count windows",
        "end_ms": "its end, which it does not include; null for count windows",
        "results[].id": "the idempotency key; what comes with an id that was there replaces it",
        "results[].ordinal": "place of the result in its window, from 0; with `ack: done`, the"
        " stream sequence of its message",
        "results[].data": "the result",
    },
    "jsonl": {
        "idempotency_key": "the same whenever this result is written; the last line of a key"
        " counts",
        "product": "the product's name",
        "task": "the task's id",
        "key": "what `key` returned for the items of the window",
        "window_id": "the window's id, revision included",
        "ordinal": "place of the result in its window, from 0; with `ack: done`, the stream"
        " sequence of its message",
        "revision": "0, or how often late items made the window fire again",
        "result": "the result",
    },
    "log": {
        "message": "the idempotency key, a blank, and the result as JSON; logged at INFO by"
        " `sinfer.sinks.log`",
    },
}
"""Every sink that ships with sinfer."""

DEAD_LETTER_COPY: dict[str, str] = {
    "payload": "the message's own bytes",
    "Nats-Msg-Id": "names the letter; with `ack: done` the message, and when it died before",
    "Sinfer-Product": "the product's name",
    "Sinfer-Task": "the task's id",
    "Sinfer-Stage": "where it failed: preprocess, window, request, inference, results or sink",
    "Sinfer-Error": "why, in one line",
    "Sinfer-Subject": "the subject that the message came on",
    "Sinfer-Sequence": "its sequence in the source's stream",
    "Sinfer-Window": "the window that it was in; missing where it never was in one",
    "Sinfer-Attempts": "how often its window was tried",
}
"""What is published on a task's ``dead_letter_subject``; the message's own headers besides."""
