"""The reference, made from the code so that it cannot drift: a Markdown page for each part."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import sinfer
import sinfer.errors
import sinfer.testing
from sinfer import exit_codes
from sinfer.cli import main
from sinfer.errors import SinferError
from sinfer.inference.base import InferenceClient
from sinfer.operations.metrics import METRICS
from sinfer.products.task import InferTaskConfig
from sinfer.settings import PREFIX, Settings
from sinfer.sinks.base import Sink
from sinfer.sinks.formats import DEAD_LETTER_COPY, RESULT_FORMATS

_MOST_NAMED = 2
"""A mapping of more fields has a section of its own."""

_LITERAL = re.compile(r"``([^`]+)``")


def pages() -> dict[str, str]:
    """All pages, by their place in the site."""
    return {
        f"reference/{name}.md": "\n".join(lines) + "\n"
        for name, lines in {
            "tasks": tasks_page(),
            "settings": settings_page(),
            "commands": commands_page(),
            "results": results_page(),
            "metrics": metrics_page(),
            "api": api_page(),
        }.items()
    }


# --- tasks ---


def tasks_page() -> Iterator[str]:
    """Every field of a task, of each window type, client and sink that ships with sinfer."""
    schema = InferTaskConfig.model_json_schema()
    defs = schema["$defs"]
    yield "# Tasks"
    yield (
        '\nDurations are `"250ms"`, `"5s"`, `"1m"` or seconds; sizes `"64KiB"` or bytes;'
        " secrets may refer to the environment as `${NAME}`. Unknown keys are refused."
        " `sinfer schema` prints this page as a JSON schema, for editors.\n"
    )
    yield from _fields("Task", schema, defs)
    yield from _fields("source", defs["JetStreamSource"], defs)
    for name in ("TumblingWindow", "CountWindow", "SlidingWindow", "SessionWindow"):
        yield from _fields(f"window: {_type(defs[name])}", defs[name], defs)
    for part, plugins in (("inference", InferenceClient), ("sinks", Sink)):
        field = schema["properties"][part]
        for found in (field.get("items") or field)["oneOf"]:
            if plugins.registry[_type(found)].__module__.startswith("sinfer."):
                yield from _fields(f"{part}: {_type(found)}", found, defs)
    yield from _fields("limits", defs["Limits"], defs)


def _type(schema: dict[str, Any]) -> str:
    return str(schema["properties"]["type"]["const"])


def _fields(title: str, schema: dict[str, Any], defs: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield _text(schema.get("description", ""))
    yield "\n| field | type | unit | default | meaning |\n| --- | --- | --- | --- | --- |"
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        if "const" in field:
            default, meaning = "required", "Selects what this table is about."
        else:
            default = "required" if name in required else f"`{_shown(field.get('default'))}`"
            meaning = _described(f"{title}: {name}", field.get("description"))
        kind, unit = _cell(_kind(field, defs)), unit_of(field)
        yield f"| `{name}` | {kind} | {unit} | {default} | {meaning} |"


def unit_of(field: dict[str, Any]) -> str:
    """What a field's numbers count; empty where it holds none."""
    found = re.search(r'"unit": "([^"]*)"', json.dumps(field))
    return found[1] if found else ""


def _kind(field: dict[str, Any], defs: dict[str, Any]) -> str:
    """What a field holds, in a few words."""
    if "$ref" in field:
        return _kind(defs[field["$ref"].rpartition("/")[2]], defs)
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        kinds = dict.fromkeys(_kind(part, defs) for part in field["anyOf"])
        return " or ".join(kind for kind in kinds if kind != "null")
    if "oneOf" in field:
        return "a mapping, see below"
    if "examples" in field:
        return f"text such as `{field['examples'][0]}`"
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}), defs)}"
    if field.get("type") == "object":
        names = list(field.get("properties", ()))
        if 0 < len(names) <= _MOST_NAMED:
            return "`{" + ", ".join(f"{name}: …" for name in names) + "}`"
        return "a mapping, see below" if names else "a mapping"
    kinds = field.get("type", "any")
    return " or ".join(kinds) if isinstance(kinds, list) else str(kinds)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    if value is None or value == "":
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- settings, commands, results, metrics, API ---


def settings_page() -> Iterator[str]:
    """Every setting."""
    yield "# Settings\n"
    yield (
        "Every process reads the environment, or a file `.env` where it is started. Each may stand"
        " in a file of its own: `SINFER_REDIS_URL_FILE` names one. Durations are as in tasks.\n"
    )
    yield "| name | type | unit | default | meaning |\n| --- | --- | --- | --- | --- |"
    schema = Settings.model_json_schema()
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        text = getattr(default, "get_secret_value", lambda value=default: value)()
        if isinstance(text, list):
            text = ",".join(text)
        shown = "" if text in (None, "") else f"`{_shown(text)}`"
        found = schema["properties"][name]
        kind = "comma-separated" if "array" in json.dumps(found) else _kind(found, {})
        meaning = _setting_names(_described(name, field.description))
        yield (
            f"| `{PREFIX}{name.upper()}` | {_cell(kind)} | {unit_of(found)} | {shown} | {meaning} |"
        )


def _setting_names(text: str) -> str:
    """Other settings as they are written in the environment."""
    return re.sub(
        r"`(\w+)`",
        lambda found: f"`{PREFIX}{found[1].upper()}`" if found[1] in Settings.model_fields
        else found[0],
        text,
    )  # fmt: skip


def commands_page() -> Iterator[str]:
    """Every command with its options and examples, and what exit codes mean."""
    yield "# Commands\n"
    context = click.Context(main, info_name="sinfer", max_content_width=90)
    yield from _command(context, level=2)
    yield "\n## Exit codes\n"
    yield "| code | meaning |\n| --- | --- |"
    for name, code, meaning in codes():
        yield f"| {code} | {_described(name, meaning)} ({name.lower()}) |"


def codes() -> Iterator[tuple[str, int, str]]:
    """Exit codes: name, number and what it means."""
    source = Path(exit_codes.__file__).read_text()
    explained = dict(re.findall(r'^([A-Z]+) = \d+\n"""(.*)"""', source, re.MULTILINE))
    for name, code in vars(exit_codes).items():
        if name.isupper() and isinstance(code, int):
            yield name, code, explained.get(name, "")


def _command(context: click.Context, level: int) -> Iterator[str]:
    command = context.command
    _described(context.command_path, command.help)
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            _described(f"{context.command_path} {parameter.opts[0]}", parameter.help)
    yield f"\n{'#' * level} {context.command_path}\n"
    yield f"```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _command(click.Context(found, info_name=name, parent=context), level + 1)


def results_page() -> Iterator[str]:
    """What is written of each result, by sink, and of each dead letter."""
    yield "# Results\n"
    yield (
        "What a reader finds of each result. `data`, `result` and `payload` are what"
        " `build_results` returned; all else is sinfer's. How keys are made up is in"
        " [Operations](../operations.md#what-results-are-called).\n"
    )
    for sink, names in RESULT_FORMATS.items():
        yield f"\n## {sink}\n\n| name | meaning |\n| --- | --- |"
        for name, meaning in names.items():
            yield f"| `{name}` | {_described(f'{sink}: {name}', meaning)} |"
    yield "\n## Copies of dead letters\n"
    yield (
        "A message on the task's `dead_letter_subject`. Its own headers are kept, but for those"
        " that NATS acts on.\n\n| name | meaning |\n| --- | --- |"
    )
    for name, meaning in DEAD_LETTER_COPY.items():
        yield f"| `{name}` | {_described(name, meaning)} |"


def metrics_page() -> Iterator[str]:
    """Everything that Prometheus is told."""
    yield "# Metrics\n"
    yield (
        "What `sinfer metrics` serves to Prometheus. All are gauges, read from Redis at each"
        " scrape; which of them to watch is in [Operations](../operations.md).\n"
    )
    yield "| name | labels | meaning |\n| --- | --- | --- |"
    for metric in METRICS.values():
        labels = ", ".join(metric.labels)
        yield f"| `{metric.name}` | {labels} | {_described(metric.name, metric.text)} |"


def api_page() -> Iterator[str]:
    """Every public name."""
    yield "# Python API\n"
    yield "What a product is written with. All of these are importable from `sinfer`.\n"
    for name in sinfer.__all__:
        found = getattr(sinfer, name)
        _described(name, found.__doc__)
        yield f"::: {found.__module__}.{name}\n"
    yield "\n# Tests: `sinfer.testing`\n"
    for name in sinfer.testing.__all__:
        yield f"::: {_home(name)}.{name}\n"
    yield "\n# Errors: `sinfer.errors`\n"
    for name, found in vars(sinfer.errors).items():
        is_error = isinstance(found, type) and issubclass(found, SinferError)
        if is_error and name not in sinfer.__all__:
            _described(name, found.__doc__)
            yield f"::: sinfer.errors.{name}\n"


def _home(name: str) -> str:
    """The module that a name of ``sinfer.testing`` comes from."""
    source = Path(sinfer.testing.__file__ or "").read_text()
    for module, names in re.findall(r"from (sinfer[\w.]+) import (.*)", source):
        if name in names.split(", "):
            return str(module)
    raise ValueError(f"sinfer.testing imports no {name}")


def _described(name: str, text: str | None) -> str:
    """A description as it goes into a table.

    Raises:
        ValueError: there is none.
    """
    if not text or not text.strip():
        raise ValueError(f"{name} is not described, so that the reference cannot explain it")
    return _cell(text)


def _cell(text: str) -> str:
    return " ".join(_text(text).split()).replace("|", "\\|")


def _text(text: str) -> str:
    return _LITERAL.sub(r"`\1`", text)
