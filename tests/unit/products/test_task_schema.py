"""The JSON schema of tasks takes what sinfer takes, and explains every field."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from sinfer import InferTaskConfig
from sinfer.inference.base import InferenceClient
from sinfer.products.example import product as example
from sinfer.products.soe import product as soe
from sinfer.products.task_schema import task_schema
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.log import LogSink

ROOT = Path(__file__).parents[3]
SCHEMA = task_schema()
VALIDATOR = Draft202012Validator(SCHEMA)

TASK: dict[str, Any] = {
    "id": "t",
    "source": {
        "servers": ["nats://host:4222"], "stream": "IN", "subject": "in.>", "durable": "d",
        "deliver": {"seq": 5}, "ack": "done", "batch": 5,
    },
    "window": {
        "type": "tumbling", "size": "5s", "max_count": 100, "max_bytes": "1MiB", "time": "event",
        "idle": "1m30s",
    },
    "inference": {
        "type": "v2", "url": "http://m", "model": "m", "version": 1, "timeout": 2.5,
        "headers": {"Authorization": "Bearer ${TOKEN}"},
    },
    "sinks": [
        {"type": "jetstream", "subject": "out"},
        {"type": "log", "limit": 3},
        {"type": "sql", "url": "sqlite:///x", "table": "t", "columns": {"score": "score"}},
        {"type": "http", "url": "http://x"},
        {"type": "redis_stream", "url": "redis://x", "stream": "s"},
        {"type": "jsonl", "path": "p"},
    ],
    "fallback": {"type": "log"},
    "dead_letter_subject": "dead.x",
    "limits": {"lease": "10s", "max_memory": "1GiB"},
}  # fmt: skip

VALUES = [
    None, [], {}, "x", "", -1, 0, 7, 1.5, ["x"], {"a": 1}, "5s", "1m 30s", "1MiB", "64 kB",
]  # fmt: skip
"""What is put in the place of each value of the task in turn."""


def documents() -> Iterator[tuple[str, Any]]:
    """All tasks that are written down in sinfer's documents, template and products."""
    template = ROOT / "sinfer" / "templates" / "newproduct" / "tasks.yaml"
    tasks = yaml.safe_load(template.read_text())
    for task in tasks:
        del task["limit"]  # the product's own setting
    yield template.name, tasks
    for page in (ROOT / "docs").rglob("*.md"):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL):
            found = yaml.safe_load(block)
            if not isinstance(found, list):  # a part of a task
                continue
            for task in found:
                task.pop("limit", None)
            yield page.name, found


def takes(task: Any) -> bool:
    """Whether sinfer does."""
    try:
        InferTaskConfig.model_validate(task)
    except ValidationError:
        return False
    return True


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each part of a value is."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


def part(task: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        task = task[key]
    return task


def with_value(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    task = copy.deepcopy(TASK)
    part(task, path[:-1])[path[-1]] = value
    return task


def without(path: tuple[Any, ...]) -> dict[str, Any]:
    task = copy.deepcopy(TASK)
    del part(task, path[:-1])[path[-1]]
    return task


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "x")


def test_it_is_a_schema_of_the_dialect_that_it_names() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize(
    "document", [TASK, [TASK, TASK], {"tasks": [TASK]}, [], None, {"tasks": None}]
)
def test_a_file_holds_a_task_or_a_list_of_them(document: Any) -> None:
    assert takes(TASK)
    VALIDATOR.validate(document)


def test_what_no_file_of_tasks_may_hold_is_refused() -> None:
    for document in ("text", 5, [5], {"tasks": TASK}, {"tasks": [TASK], "more": 1}, [[TASK]]):
        assert not VALIDATOR.is_valid(document)


@pytest.mark.parametrize(("name", "document"), list(documents()))
def test_the_tasks_of_the_documents_are_valid(name: str, document: Any) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize("product", [example, soe], ids=lambda product: str(product.name))
def test_a_product_s_own_settings_are_in_its_schema(product: Any) -> None:
    schema = task_schema(product.task_type)
    Draft202012Validator.check_schema(schema)
    own = product.task_type.model_fields.keys() - InferTaskConfig.model_fields.keys()
    assert own
    for name in own:
        assert schema["$defs"]["Task"]["properties"][name]["description"]


def test_whatever_sinfer_takes_is_valid() -> None:
    for path in places(TASK):
        for value in VALUES:
            task = with_value(path, value)
            assert VALIDATOR.is_valid(task) or not takes(task), (path, value)
        task = without(path)
        assert VALIDATOR.is_valid(task) or not takes(task), path


def test_whatever_has_a_wrong_type_or_an_unknown_key_is_invalid_where_sinfer_refuses_it() -> None:
    for path in places(TASK):
        value: Any
        for value in ([], 7, {"a": 1}):
            task = with_value(path, value)
            assert VALIDATOR.is_valid(task) == takes(task), (path, value)
        if isinstance(part(TASK, path), dict) and path[-1] not in ("headers", "columns"):
            assert not VALIDATOR.is_valid(with_value((*path, "unknown"), 1)), path


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("source"),
        lambda t: t.update(treshold=1),
        lambda t: t["window"].update(size="5 parsecs"),
        lambda t: t["window"].update(max_bytes="1 MegaByte"),
        lambda t: t["inference"].update(type="v3"),
        lambda t: t["inference"].pop("type"),
        lambda t: t["inference"].pop("model"),
        lambda t: t["sinks"].append({"type": "sqll"}),
        lambda t: t["sinks"].clear(),
    ],
)
def test_what_sinfer_refuses_is_not(change: Callable[[dict[str, Any]], Any]) -> None:
    task = copy.deepcopy(TASK)
    change(task)
    assert not takes(task)
    assert not VALIDATOR.is_valid(task)
    assert not VALIDATOR.is_valid([task])
    assert not VALIDATOR.is_valid({"tasks": [task]})


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if "title" in schema and "properties" in schema:
            yield schema
        for found in schema.values():
            yield from objects(found)
    elif isinstance(schema, list):
        for found in schema:
            yield from objects(found)


def fields() -> Iterator[tuple[str, dict[str, Any]]]:
    for schema in objects(SCHEMA):
        for name, field in schema["properties"].items():
            yield f"{schema['title']}.{name}", field


def test_every_field_is_explained() -> None:
    unexplained = {
        name
        for name, field in fields()
        if not name.endswith(".type") and not field.get("description")
    }
    assert unexplained == set()


def test_every_number_has_a_unit() -> None:
    def is_number(field: dict[str, Any]) -> bool:
        return any(
            kind.get("type") in ("integer", "number") for kind in [field, *field.get("anyOf", [])]
        )

    bare = {
        name
        for name, field in fields()
        if is_number(field) and '"unit": "' not in json.dumps(field)
    }
    assert bare == set()


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


def test_a_sink_of_a_product_with_no_settings_of_its_own_is_selected_by_its_name_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Sink, "registry", dict(Sink.registry))
    type("Plain", (LogSink,), {"type": "plain", "Config": SinkConfig})
    validator = Draft202012Validator(task_schema())
    for sink, fits in (
        ({"type": "plain"}, True),
        ({"type": "plain", "limit": 3}, False),
        ({"type": "log", "limit": 3}, True),
        ({"type": "unknown"}, False),
    ):
        assert validator.is_valid({**TASK, "sinks": [sink]}) is fits, sink
