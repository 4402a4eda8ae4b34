"""The JSON schema of what a file of tasks may hold."""

from __future__ import annotations

from typing import Any

from sinfer.products.task import InferTaskConfig

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_TASK = "Task"


def task_schema(task_type: type[InferTaskConfig] = InferTaskConfig) -> dict[str, Any]:
    """The schema of a task, or of a list of tasks, alone or under ``tasks``.

    It says what ``YamlTaskManager`` takes. Where sinfer converts values, as ``"5"`` to 5, the
    schema asks for what is meant. What depends on several fields at once is left to sinfer.
    """
    task = task_type.model_json_schema()
    parts = task.pop("$defs", {})
    limits = task["properties"]["limits"]
    limits["anyOf"] = [{"$ref": limits.pop("$ref")}, {"type": "null"}]  # a part without content
    one = {"$ref": f"#/$defs/{_TASK}"}
    many = {"type": ["array", "null"], "items": one}
    return {
        "$schema": DIALECT,
        "title": "Tasks of sinfer",
        "description": "One task, a list of tasks, or such a list under 'tasks'.",
        "if": {"type": ["array", "null"]},
        "then": many,
        "else": {
            "if": {"type": "object", "required": ["tasks"]},
            "then": {"properties": {"tasks": many}, "additionalProperties": False},
            "else": one,
        },
        "$defs": {**parts, _TASK: task},
    }
