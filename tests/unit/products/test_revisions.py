"""What is kept of a configuration: all that windows need, and no secret."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer import ConfigError
from sinfer.products.revisions import Revision, keeps, revision_of, task_of
from tests.support.task_settings import Threshold, settings_of


def task(**changes: Any) -> Threshold:
    return Threshold.model_validate(settings_of("a", **changes))


def sql(url: str) -> list[dict[str, Any]]:
    return [{"type": "sql", "url": url, "table": "t"}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"window": {"type": "tumbling", "size": "5s", "max_count": 3}},
        {"window": {"type": "sliding", "size": "1m", "slide": 10, "time": "event", "idle": "5s"}},
        {"source": {"stream": "S", "partitions": ["s.a", "s.b"], "deliver": {"seq": 3}}},
        {"inference": {"type": "v2", "url": "http://model:8000", "model": "m", "timeout": "2s"}},
        {"sinks": [{"type": "sql", "url": "sqlite:///x", "table": "t", "schema": "main"}]},
        {"fallback": {"type": "jsonl", "path": "dead.jsonl"}, "limits": {"lease": "2s"}},
    ],
)
def test_a_task_is_read_as_it_was(changes: dict[str, Any]) -> None:
    made = task(**changes)
    revision = revision_of(made)
    assert task_of(Threshold, revision) == made
    assert Revision.unpack(revision.pack()) == revision
    assert keeps(made, revision)


def test_references_stay_references(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hush-hush")
    monkeypatch.setenv("TOKEN", "hush-token")
    made = task(
        sinks=[
            *sql("postgresql://me:${DB_PASSWORD}@db/x"),
            {"type": "http", "url": "http://h", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        ]
    )
    revision = revision_of(made)
    assert "hush" not in revision.text
    assert "${DB_PASSWORD}" in revision.text
    assert task_of(Threshold, revision) == made
    monkeypatch.setenv("DB_PASSWORD", "changed")
    read: Any = task_of(Threshold, revision)
    assert read.sinks[0].url.get_secret_value() == "postgresql://me:changed@db/x"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"sinks": sql("postgresql://me:hush@db/x")}, "sinks.0.url"),
        (
            {"sinks": [{"type": "http", "url": "http://h", "headers": {"Authorization": "hush"}}]},
            "sinks.0.headers.Authorization",
        ),
        (
            {"inference": {"type": "json", "url": "http://me:hush@model/x"}},
            "inference.url",
        ),
        (
            {"sinks": [{"type": "jetstream", "subject": "s", "servers": ["nats://hush@n:4222"]}]},
            "sinks.0.servers.0",
        ),
    ],
)
def test_a_secret_in_clear_is_not_kept_but_taken_from_the_task_as_it_is_known(
    changes: dict[str, Any], field: str
) -> None:
    made = task(**changes)
    revision = revision_of(made)
    assert "hush" not in revision.text
    assert keeps(made, revision)
    with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
        task_of(Threshold, revision)
    assert task_of(Threshold, revision, own=made) == made


def test_where_the_task_reads_is_kept_without_its_servers() -> None:
    revision = revision_of(task(source={"stream": "S", "servers": ["nats://me:hush@n:4222"]}))
    assert "hush" not in revision.text
    assert task_of(Threshold, revision).source.stream == "S"


def test_only_the_window_and_the_products_own_settings_are_the_meaning() -> None:
    usual = revision_of(task())
    assert revision_of(task(limits={"max_attempts": 2})).meaning == usual.meaning
    assert revision_of(task(sinks=[{"type": "log", "limit": 1}])).meaning == usual.meaning
    assert revision_of(task(threshold=0.1)).meaning != usual.meaning
    assert revision_of(task(window={"type": "count", "count": 3})).meaning != usual.meaning


def test_a_window_keeps_its_meaning_and_has_the_newest_of_the_rest() -> None:
    opened = revision_of(task(threshold=0.1, inference={"type": "python", "call": "wrong:model"}))
    newest = revision_of(task(threshold=0.9))
    read: Any = task_of(Threshold, opened, newest)
    assert read.threshold == 0.1
    assert read.inference.call == "tests.support.task_settings:upper"


def test_what_cannot_be_written_down_is_noticed() -> None:
    made = task(inference={"type": "python", "call": lambda request: request})
    assert not keeps(made, revision_of(made))


def test_partitions_that_an_earlier_version_took_are_still_read() -> None:
    """Windows under way outlive the upgrade that refuses their task's configuration."""
    settings = settings_of("t", source={"stream": "S", "partitions": ["s.a", "s.b"]})
    kept = revision_of(Threshold.model_validate(settings))
    overlapping = Revision(kept.meaning, kept.text.replace('"s.b"', '"s.*"'))
    assert task_of(Threshold, overlapping).source.partition_subjects == ["s.a", "s.*"]
