"""What is wrong with a pipeline class, told when the product loads and not by its messages."""

from __future__ import annotations

import inspect
from functools import partial, partialmethod
from typing import Any

RESULTS_PER = ("item", "window", "any")

_ARGUMENTS = {
    "preprocess": ("message",),
    "key": ("item",),
    "event_time": ("item",),
    "item_id": ("item",),
    "close_when": ("window", "item"),
    "build_request": ("window",),
    "build_results": ("window", "response"),
}
"""The hooks, and what each is called with."""

_LONGEST_VERSION = 64

_AWAITED = ("build_request", "build_results")


def pipeline_problem(pipeline: type) -> str:
    """What is wrong with a pipeline class, and the remedy; empty when nothing is."""
    if missing := sorted(getattr(pipeline, "__abstractmethods__", ())):
        return f"{pipeline.__name__} lacks {', '.join(missing)}"
    results_per = inspect.getattr_static(pipeline, "results_per", None)
    if text := results_per_problem(results_per):
        return f"{pipeline.__name__}.{text}"
    if text := _version_problem(inspect.getattr_static(pipeline, "version", None)):
        return f"{pipeline.__name__}.{text}"
    for name, arguments in _ARGUMENTS.items():
        if text := _hook_problem(pipeline, name, arguments):
            return f"{pipeline.__name__}.{name} {text}"
    return ""


def results_per_problem(results_per: object) -> str:
    """What is wrong with ``results_per``; empty when nothing is."""
    if type(results_per) is str and results_per in RESULTS_PER:
        return ""
    known = ", ".join(map(repr, RESULTS_PER))
    return f"results_per is {results_per!r:.100}; it must be one of {known}"


def _version_problem(version: object) -> str:
    if type(version) is str and len(version) <= _LONGEST_VERSION and version.isprintable():
        return ""
    return (
        f"version is {version!r:.100}; it must be a text of at most {_LONGEST_VERSION} characters,"
        " such as '2' or a commit"
    )


def _hook_problem(pipeline: type, name: str, arguments: tuple[str, ...]) -> str:
    found = inspect.getattr_static(pipeline, name)
    given = len(arguments)
    if isinstance(found, staticmethod | classmethod):
        given += isinstance(found, classmethod)
        function: Any = found.__func__
    elif isinstance(found, property) or hasattr(type(found), "__set__"):
        return ""  # made for each pipeline: what it is shows when it is called
    else:
        function = found
        given += inspect.isfunction(found) or isinstance(found, partialmethod)
    if not callable(function) and not isinstance(function, partialmethod):
        return f"is {function!r:.100}, not a method"
    if text := _kind_problem(_innermost(function), name in _AWAITED):
        return text
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return ""
    try:
        signature.bind(*range(given))
    except TypeError:
        return f"cannot be called with ({', '.join(arguments)}); its parameters are {signature}"
    return ""


def _innermost(function: Any) -> Any:
    """The function whose kind decides what a call returns."""
    while isinstance(function, partial | partialmethod):
        function = function.func
    if not inspect.isroutine(function) and not isinstance(function, type):
        return getattr(type(function), "__call__", function)  # noqa: B004 (an object that is called)
    return function


def _kind_problem(function: Any, is_awaited: bool) -> str:
    if inspect.isasyncgenfunction(function):
        return "is an async generator; return the whole instead of yielding it"
    if is_awaited:
        return ""
    if inspect.iscoroutinefunction(function):
        return "is 'async def', but nobody awaits it; make it a plain 'def'"
    if inspect.isgeneratorfunction(function):
        return "is a generator; return a value instead of yielding it"
    return ""
