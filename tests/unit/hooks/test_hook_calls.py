"""Code of a product is called through ``sinfer.hooks.call`` alone: no file calls it by the way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3] / "sinfer"

ANYWHERE = {
    "preprocess", "event_time", "item_id", "close_when", "build_request", "build_results",
    "list_tasks", "infer",
}  # fmt: skip
"""Hooks whose names nothing else has. ``product.list_tasks`` goes through a hook itself."""

CALLED = {"key", "write", "aclose", "pipeline"}
"""Names that others have as well: of these, calls on what a product may have written count."""

OWNERS = {"pipeline", "_pipeline", "sink", "client", "_client", "tasks", "product", "_product"}

NOT_A_PRODUCT_S = {
    "product.list_tasks", "_product.list_tasks",  # sinfer's own, that go through a hook
    "_inferrer.infer", "tasks.pipeline",
    "_client.aclose", "_client.build_request",  # of httpx
    "_model.infer",  # of the embedded model server
}  # fmt: skip

OWN_WAY = {
    "windows/planner.py",
    "ingest/entries.py",
    "ingest/supervisor.py",
    "ingest/handover.py",
    "ingest/isolated_process.py",
    "products/product.py",
    "local/task.py",
    "local/trace.py",
}
"""Files of the ingesting side; and what stands between a hook and its function."""


def source_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*.py")):
        name = str(path.relative_to(ROOT))
        is_product = name.startswith(("products/example", "products/soe", "templates/", "demo/"))
        if not is_product and name not in OWN_WAY:
            yield path


def owner(node: ast.Attribute) -> str:
    """The last name before the attribute: ``a.b.infer`` is of ``b``."""
    value = node.value
    return value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", "")


def bypasses(tree: ast.Module) -> Iterator[str]:
    """Uses of hooks that are no argument of ``Hook(...)``, or of ``made(...)``."""
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Hook", "made"):
            inside.update(node.args)
            for arg in node.args:  # what wraps a hook's function is called through the hook
                inside.update(arg.args if isinstance(arg, ast.Call) else ())
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Load):
            continue
        of = owner(node)
        name = f"{of}.{node.attr}"
        is_hook = node.attr in ANYWHERE
        is_call = node in called and node.attr in CALLED and of in OWNERS
        if (is_hook or is_call) and node not in inside and name not in NOT_A_PRODUCT_S:
            yield f"line {node.lineno}: {name}"


def test_hooks_are_called_through_the_wrapper_alone() -> None:
    found = {
        str(path.relative_to(ROOT)): list(bypasses(ast.parse(path.read_text())))
        for path in source_files()
    }
    assert {name: places for name, places in found.items() if places} == {}


@pytest.mark.parametrize(
    "code",
    [
        "pipeline.preprocess(message)",
        "self._pipeline.build_request(window)",
        "f = pipeline.build_results",
        "pipeline.key(item)",
        "await sink.write(results)",
        "await self._client.infer(request)",
        "await client.aclose()",
        "self.tasks.list_tasks()",
        "product.pipeline(config)",
    ],
)
def test_a_call_by_the_way_is_found(code: str) -> None:
    text = f"async def f(self):\n    {code}\n"
    assert len(list(bypasses(ast.parse(text)))) == 1


def test_a_call_through_the_wrapper_is_none() -> None:
    text = 'Hook("preprocess", "preprocess", pipeline.preprocess)(message)'
    assert list(bypasses(ast.parse(text))) == []
