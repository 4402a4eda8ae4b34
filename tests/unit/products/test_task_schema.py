"""The JSON schema of a task takes what sinfer takes, and explains every field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from sinfer import InferTaskConfig
from sinfer.inference.base import InferenceClient
from sinfer.sinks.base import Sink

SCHEMA = InferTaskConfig.model_json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def task(change: Callable[[dict[str, Any]], Any] = lambda _: None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": "t",
        "source": {"stream": "IN", "subject": "in.>", "deliver": {"seq": 5}},
        "window": {"type": "tumbling", "size": "5s", "max_count": 100, "max_bytes": "1MiB"},
        "inference": {"type": "v2", "url": "http://m", "model": "m", "timeout": 2.5},
        "sinks": [{"type": "jetstream", "subject": "out"}, {"type": "log"}],
    }
    change(found)
    return found


@pytest.mark.parametrize(
    "change",
    [
        lambda t: None,
        lambda t: t.update(window={"type": "count", "count": 5}),
        lambda t: t.update(inference={"type": "python", "call": "a:b"}),
        lambda t: t.update(fallback={"type": "log"}, limits={"lease": "10s"}),
        lambda t: t["inference"].update(headers={"Authorization": "Bearer ${TOKEN}"}),
    ],
)
def test_what_sinfer_takes_is_valid(
    change: Callable[[dict[str, Any]], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "x")
    found = task(change)
    InferTaskConfig.model_validate(found)
    VALIDATOR.validate(found)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("source"),
        lambda t: t.update(treshold=1),
        lambda t: t["window"].update(sise="5s"),
        lambda t: t["window"].update(size=[]),
        lambda t: t["inference"].update(type="v3"),
        lambda t: t["inference"].pop("type"),
        lambda t: t["inference"].pop("model"),
        lambda t: t["sinks"].append({"type": "sqll"}),
        lambda t: t["sinks"].clear(),
    ],
)
def test_what_sinfer_refuses_is_not(change: Callable[[dict[str, Any]], Any]) -> None:
    assert not VALIDATOR.is_valid(task(change))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "properties" in schema:
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def test_every_field_is_explained() -> None:
    unexplained = {
        f"{schema['title']}.{name}"
        for schema in objects(SCHEMA)
        for name, field in schema["properties"].items()
        if name != "type" and not field.get("description")
    }
    assert unexplained == set()


def test_all_clients_and_sinks_are_in_it() -> None:
    types = {
        schema["properties"]["type"].get("const")
        for schema in objects(SCHEMA)
        if "type" in schema["properties"]
    }
    shipped = {
        name
        for registry in (InferenceClient.registry, Sink.registry)
        for name, plugin in registry.items()
        if plugin.__module__.startswith("sinfer.")
    }
    assert shipped <= types
