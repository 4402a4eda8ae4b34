"""Whatever code of a product does when it is called, the caller gets a result or a HookError."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from sinfer.errors import (
    ConfigError,
    HookError,
    InferenceError,
    InferenceRejectedError,
    SinferError,
)
from sinfer.hooks.call import CALLER, Hook, Running, caller, describe, made, running


class Panic(BaseException):
    """As pyo3 raises them."""


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text either")


class Lying(str):
    def __format__(self, spec: str) -> str:
        raise SystemExit(3)


class UnreadableRefusal(InferenceRejectedError):
    def __str__(self) -> str:
        raise KeyboardInterrupt


def endless() -> None:
    endless()


HOSTILE: dict[str, tuple[Callable[[], BaseException], str]] = {
    "exit": (lambda: SystemExit(7), "SystemExit: 7 (it asked for the end of the process)"),
    "interrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "generator exit": (GeneratorExit, "GeneratorExit"),
    "panic": (lambda: Panic("index out of bounds"), "Panic: index out of bounds"),
    "cancelled": (asyncio.CancelledError, "CancelledError"),
    "unreadable": (Unreadable, "Unreadable without a readable text"),
    "lying text": (lambda: ValueError(Lying("x")), "ValueError: x"),
    "memory": (MemoryError, "MemoryError"),
    "group": (
        lambda: BaseExceptionGroup("many", [SystemExit(1), ValueError()]),
        "BaseExceptionGroup: many (2 sub-exceptions)",
    ),
    "surrogate": (lambda: ValueError("\udc80 lone"), r"ValueError: \udc80 lone"),
    "lines": (lambda: ValueError("one\n\ttwo"), "ValueError: one two"),
    "secret": (lambda: ValueError("http://me:word@host/"), "ValueError: http://***@host/"),
    "refusal without text": (
        lambda: UnreadableRefusal("x"),
        "UnreadableRefusal without a readable text",
    ),
}


def raises(make: Callable[[], BaseException]) -> Any:
    raise make()


async def raises_later(make: Callable[[], BaseException]) -> Any:
    await asyncio.sleep(0)
    raise make()


@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_a_hook_raises_is_a_hook_error_with_its_text(name: str) -> None:
    make, text = HOSTILE[name]
    hook = Hook("request", "build_request", raises, passing=(InferenceError,))
    with pytest.raises(HookError) as called:
        hook(make)
    with pytest.raises(HookError) as waited:
        await hook.wait(make)
    with pytest.raises(HookError) as awaited:
        await Hook("request", "build_request", raises_later, passing=(InferenceError,)).wait(make)
    [repeated] = hook.each([make])
    assert isinstance(repeated, HookError)
    with pytest.raises(HookError) as ours:
        await Hook("sink", "write", raises_later, passing=(InferenceError,), is_ours=True).wait(
            make
        )
    for error in (called.value, waited.value, repeated):
        assert (error.stage, error.hook, error.text) == ("request", "build_request", text)
        assert str(error) == f"build_request: {text}"
    assert awaited.value.text == text
    assert ours.value.text == text
    assert running() == []
    assert caller() is None


async def test_what_cannot_be_raised_in_a_coroutine_is_a_hook_error_too() -> None:
    with pytest.raises(HookError, match="StopIteration"):
        Hook("results", "build_results", raises)(StopIteration)
    with pytest.raises(HookError, match="StopIteration"):
        await Hook("results", "build_results", raises).wait(StopIteration)
    with pytest.raises(HookError, match="RuntimeError: coroutine raised StopIteration"):
        await Hook("results", "build_results", raises_later).wait(StopIteration)
    with pytest.raises(HookError, match="RecursionError"):
        Hook("results", "build_results", endless)()


async def test_errors_that_mean_something_pass() -> None:
    hook = Hook("inference", "infer", raises_later, passing=(InferenceError,))
    with pytest.raises(InferenceRejectedError, match="too long") as caught:
        await hook.wait(lambda: InferenceRejectedError("too long", status=400))
    assert caught.value.status == 400
    assert caught.value.__cause__ is None


def test_a_text_without_end_is_cut() -> None:
    assert len(describe(ValueError("x" * 10_000_000))) == 500


def test_pydantic_tells_where() -> None:
    class Reading(BaseModel):
        value: int

    with pytest.raises(HookError) as caught:
        Hook("preprocess", "preprocess", Reading.model_validate)({"value": "many"})
    assert caught.value.text == (
        "value: Input should be a valid integer, unable to parse string as an integer"
    )


def test_a_coroutine_where_none_is_awaited_is_an_error() -> None:
    with pytest.raises(HookError, match="make it a plain function"):
        Hook("preprocess", "preprocess", raises_later)(ValueError)


def test_a_hook_that_is_called_for_each_of_many_goes_on_behind_one_that_fails() -> None:
    seen: list[list[str]] = []

    def half(number: int) -> float:
        inner(number)
        seen.append([found.hook for found in running()])
        return 1 / number

    inner = Hook("preprocess", "item_id", lambda _: None)
    found = Hook("preprocess", "preprocess", half).each([1, 0, 2])
    assert [found[0], str(found[1]), found[2]] == [
        1.0, "preprocess: ZeroDivisionError: division by zero", 0.5,
    ]  # fmt: skip
    assert seen == [["preprocess"]] * 3
    assert running() == []
    later = Hook("preprocess", "preprocess", raises_later)
    [refused] = later.each([ValueError])
    assert "make it a plain function" in refused.text


@pytest.mark.parametrize("is_ours", [True, False])
async def test_what_is_cancelled_ends_as_such_and_in_time(is_ours: bool) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    task = asyncio.create_task(Hook("sink", "write", waits, is_ours=is_ours).wait())
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Hook("sink", "write", waits, is_ours=is_ours).wait()
    assert running() == []


async def test_what_is_thrown_away_in_the_middle_is_no_trouble() -> None:
    coroutine = Hook("sink", "write", asyncio.Event().wait, is_ours=True).wait()
    coroutine.send(None)
    contextvars.Context().run(coroutine.close)
    assert running() == []
    CALLER.set(None)  # as in the context that ended with it


async def test_only_a_cancellation_from_here_is_one() -> None:
    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(HookError, match="CancelledError"):
        await Hook("sink", "write", cancels_itself).wait()


async def test_a_hook_that_does_not_let_itself_be_cancelled_is_left() -> None:
    release = asyncio.Event()

    async def stays() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await Hook("sink", "write", stays).wait()
    release.set()


async def test_what_runs_is_known_from_other_threads() -> None:
    seen: list[list[Running]] = []

    def look() -> None:
        thread = threading.Thread(target=lambda: seen.append(running()))
        thread.start()
        thread.join()

    async def looks() -> None:
        look()
        await asyncio.sleep(0)
        look()

    def nested() -> None:
        Hook("window", "close_when", look, task="p/t")()
        look()

    Hook("request", "build_request", nested, task="p/t")()
    assert [[(r.hook, r.task, r.blocks) for r in found] for found in seen] == [
        [(name, "p/t", threading.get_ident())] for name in ("close_when", "build_request")
    ]
    seen.clear()
    await Hook("request", "build_request", looks, task="p/t").wait()
    assert [[(r.hook, r.blocks) for r in found] for found in seen] == [
        [("build_request", threading.get_ident())]
    ] * 2
    waiting = asyncio.Event()
    task = asyncio.create_task(Hook("sink", "write", waiting.wait, task="p/t").wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    [found] = running()
    assert (found.hook, found.blocks) == ("write", None)
    waiting.set()
    await task
    assert running() == []


def test_what_cannot_be_made_is_a_mistake_in_the_configuration() -> None:
    class Broken:
        def __init__(self, reason: BaseException) -> None:
            raise reason

    with pytest.raises(ConfigError, match="the pipeline cannot be made: SystemExit: 2"):
        made("the pipeline", Broken, SystemExit(2))
    with pytest.raises(ConfigError, match=r"^no such model$"):
        made("the pipeline", Broken, ConfigError("no such model"))
    assert issubclass(HookError, SinferError)
