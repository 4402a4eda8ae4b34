"""Pages of the documentation that are made from the code, so that they cannot drift from it.

A hook of MkDocs (``hooks:`` in mkdocs.yml). Made here: the first page, from README.md, and the
reference of tasks, settings, commands and the Python API.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import sinfer
from sinfer import exit_codes
from sinfer.cli import main
from sinfer.products.task import InferTaskConfig
from sinfer.settings import PREFIX, Settings

ROOT = Path(__file__).parents[1]

_LINK = re.compile(r"\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]+)?\)")
_MOST_NAMED = 2
"""A mapping of more fields has a section of its own."""

_LITERAL = re.compile(r"``([^`]+)``")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    pages = {
        "index.md": (ROOT / "README.md").read_text(),
        "reference/tasks.md": "\n".join(tasks_page()),
        "reference/settings.md": "\n".join(settings_page()),
        "reference/commands.md": "\n".join(commands_page()),
        "reference/api.md": "\n".join(api_page()),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at pages of the site; what lies outside of it is named instead."""

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        base = ROOT if page.file.src_uri == "index.md" else ROOT / "docs"
        path = (base / target).resolve().relative_to(ROOT)
        if not (ROOT / path).exists():
            return match[0]  # of a page that is made, or broken: MkDocs will tell
        if path == Path("README.md"):
            return f"[{text}](index.md{anchor})"
        if path.parts[0] == "docs":
            return f"[{text}]({path.relative_to('docs')}{anchor})"
        return text if str(path) in text else f"{text} (`{path}`)"

    if page.file.src_uri.startswith("reference/"):
        return markdown
    return _LINK.sub(link, markdown)


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
    for part in ("inference", "sinks"):
        field = schema["properties"][part]
        for found in (field.get("items") or field)["oneOf"]:
            yield from _fields(f"{part}: {_type(found)}", found, defs)
    yield from _fields("limits", defs["Limits"], defs)


def _type(schema: dict[str, Any]) -> str:
    return str(schema["properties"]["type"]["const"])


def _fields(title: str, schema: dict[str, Any], defs: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield _text(schema.get("description", ""))
    yield "\n| field | type | default | meaning |\n| --- | --- | --- | --- |"
    required = schema.get("required", [])
    for name, field in schema["properties"].items():
        default = "required" if name in required else f"`{_shown(field.get('default'))}`"
        meaning = _cell(field.get("description", ""))
        yield f"| `{name}` | {_cell(_kind(field, defs))} | {default} | {meaning} |"


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
    return str(field.get("type", "any"))


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "{}"
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


# --- settings, commands, API ---


def settings_page() -> Iterator[str]:
    """Every setting."""
    yield "# Settings\n"
    yield (
        "Every process reads the environment, or a file `.env` where it is started. Each may stand"
        " in a file of its own: `SINFER_REDIS_URL_FILE` names one.\n"
    )
    yield "| name | default | meaning |\n| --- | --- | --- |"
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        text = getattr(default, "get_secret_value", lambda value=default: value)()
        if isinstance(text, list):
            text = ",".join(text)
        shown = "" if text in (None, "") else f"`{_shown(text)}`"
        yield f"| `{PREFIX}{name.upper()}` | {shown} | {_cell(field.description or '')} |"


def commands_page() -> Iterator[str]:
    """Every command with its options and examples, and what exit codes mean."""
    yield "# Commands\n"
    context = click.Context(main, info_name="sinfer", max_content_width=90)
    yield from _command(context, level=2)
    yield "\n## Exit codes\n"
    yield "| code | meaning |\n| --- | --- |"
    source = Path(exit_codes.__file__).read_text()
    for name, code, meaning in re.findall(r'^([A-Z]+) = (\d+)\n"""(.*)"""', source, re.MULTILINE):
        yield f"| {code} | {meaning} ({name.lower()}) |"


def _command(context: click.Context, level: int) -> Iterator[str]:
    yield f"\n{'#' * level} {context.command_path}\n"
    yield f"```text\n{context.command.get_help(context)}\n```"
    if isinstance(context.command, click.Group):
        for name in context.command.list_commands(context):
            command = context.command.get_command(context, name)
            assert command is not None
            inner = click.Context(command, info_name=name, parent=context)
            yield from _command(inner, level + 1)


def api_page() -> Iterator[str]:
    """Every public name."""
    yield "# Python API\n"
    yield "All of these are importable from `sinfer`.\n"
    for name in sinfer.__all__:
        found = getattr(sinfer, name)
        yield f"::: {found.__module__}.{name}\n"


def _cell(text: str) -> str:
    return " ".join(_text(text).split()).replace("|", "\\|")


def _text(text: str) -> str:
    return _LITERAL.sub(r"`\1`", text)


os.environ.setdefault("NO_COLOR", "1")
