"""Log lines are readable by people or machines, and never show a password."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from sinfer.logging.masking import mask
from sinfer.logging.setup import JsonFormatter, LeaveOut, TextFormatter


def record(message: str, *args: object, **extra: object) -> logging.LogRecord:
    made = logging.makeLogRecord(
        {"name": "sinfer.ingest", "levelno": 20, "levelname": "INFO", "msg": message, "args": args}
    )
    made.created = 1_700_000_000.5
    vars(made).update(extra)
    return made


def test_text_has_time_in_utc_level_and_origin() -> None:
    line = TextFormatter().format(record("task %s", "ex_1"))
    assert line == "2023-11-14T22:13:20.500Z INFO sinfer.ingest: task ex_1"


def test_json_has_the_extra_fields_of_a_record() -> None:
    line = JsonFormatter().format(record("task %s", "ex_1", task="ex_1", count=3))
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.500Z",
        "level": "INFO",
        "logger": "sinfer.ingest",
        "message": "task ex_1",
        "task": "ex_1",
        "count": 3,
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_passwords_in_urls_are_masked_also_in_exceptions(formatter: logging.Formatter) -> None:
    made = record("cannot reach %s", "redis://:hunter2@host:6379/0", url="nats://u:hunter2@h")
    try:
        raise OSError("postgresql://u:hunter2@db/x")
    except OSError:
        made.exc_info = sys.exc_info()
    line = formatter.format(made)
    assert "hunter2" not in line
    assert "redis://***@host:6379/0" in line


def test_mask_leaves_other_text_alone() -> None:
    text = "http://host/a@b and user@example.org and 10:30"
    assert mask(text) == text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:a,b@h/0", "redis://***@h/0"),
        ("redis://u:p@ss@h", "redis://***@h"),
        ("nats://one:4222,nats://s3cret@two", "nats://one:4222,nats://***@two"),
        ("sentinel://:a@h;sentinel://:b@i", "sentinel://***@h;sentinel://***@i"),
        ("http://h/x?Token=a.b&n=1", "http://h/x?Token=***&n=1"),
        ("mailto me@example.org, see https://h/@me", "mailto me@example.org, see https://h/@me"),
    ],
)
def test_urls_keep_all_but_their_secrets(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    ("level", "task", "is_told"),
    [(logging.INFO, "a", False), (logging.INFO, "b", True), (logging.ERROR, "a", True)],
)
def test_what_celery_tells_of_one_task_is_left_out_unless_it_failed(
    level: int, task: str, is_told: bool
) -> None:
    told = logging.LogRecord("celery", level, "", 0, "Task %(name)s", ({"name": task},), None)
    told.data = {"name": task}
    assert LeaveOut("a").filter(told) == is_told
