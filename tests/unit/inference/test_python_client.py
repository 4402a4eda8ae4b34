"""A Python callable as the model: sync or async, its errors, and its time-out."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from sinfer.errors import (
    ConfigError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
)
from sinfer.inference.python import PythonClient, PythonConfig


async def infer(call: Any, request: Any, **settings: Any) -> Any:
    client = PythonClient(PythonConfig(call=call, **settings))
    try:
        return await client.infer(request, idempotency_key="k")
    finally:
        await client.aclose()


async def doubled(request: list[int]) -> list[int]:
    await asyncio.sleep(0)
    return [2 * x for x in request]


class Model:
    async def __call__(self, request: int) -> int:
        return request + 1


async def test_an_async_function_runs_on_the_loop() -> None:
    assert await infer(doubled, [1, 2]) == [2, 4]
    assert await infer(Model(), 1) == 2


async def test_another_function_runs_in_a_thread_and_the_loop_goes_on() -> None:
    go_on = threading.Event()

    def blocking(request: int) -> tuple[int, str]:
        assert go_on.wait(10)
        return request, threading.current_thread().name

    asyncio.get_running_loop().call_soon(go_on.set)
    answer, thread = await infer(blocking, 3)
    assert answer == 3
    assert thread.startswith("sinfer-python")


async def test_a_function_is_found_by_its_name() -> None:
    assert await infer("json:dumps", [1]) == "[1]"
    assert await infer("datetime:date.fromisoformat", "2024-02-01") is not None


@pytest.mark.parametrize("name", ["no_such_module:f", "json:nothing", "json:decoder.nothing"])
def test_a_function_that_is_not_there_is_an_error_of_the_configuration(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        PythonClient(PythonConfig(call=name))


def test_what_cannot_be_called_is_an_error_of_the_configuration() -> None:
    with pytest.raises(ConfigError, match="is not callable"):
        PythonClient(PythonConfig(call="string:digits"))


@pytest.mark.parametrize("error", [ValueError(), StopIteration(), TimeoutError(), OSError()])
@pytest.mark.parametrize("is_async", [False, True])
async def test_an_error_of_the_function_is_one_of_the_server(
    error: Exception, is_async: bool
) -> None:
    def fails(request: Any) -> None:
        raise error

    async def fails_later(request: Any) -> None:
        raise error

    with pytest.raises(InferenceServerError, match=r"Error|StopIteration") as caught:
        await infer(fails_later if is_async else fails, 1)
    assert caught.value.__cause__ is not None


async def test_wrong_arguments_are_an_error_of_the_server() -> None:
    async def none_taken() -> None: ...

    with pytest.raises(InferenceServerError, match="TypeError"):
        await infer(none_taken, 1)


async def test_the_function_decides_by_raising_errors_of_sinfer() -> None:
    def picky(request: Any) -> None:
        raise InferenceRejectedError("not this one")

    with pytest.raises(InferenceRejectedError, match="not this one"):
        await infer(picky, 1)


async def test_a_function_that_takes_too_long_is_unavailable() -> None:
    release = threading.Event()

    async def forever(request: Any) -> None:
        await asyncio.Event().wait()

    try:
        with pytest.raises(InferenceUnavailableError, match="no answer within 20ms"):
            await infer(forever, 1, timeout="20ms")
        with pytest.raises(InferenceUnavailableError, match="no answer within 20ms"):
            await infer(lambda request: release.wait(10), 1, timeout="20ms")
    finally:
        release.set()


async def test_no_more_threads_run_than_calls_are_allowed() -> None:
    together = threading.Barrier(3)
    client = PythonClient(PythonConfig(call=lambda request: together.wait(10), max_concurrency=3))
    places = await asyncio.gather(*(client.infer(n) for n in range(6)))
    assert sorted(places) == [0, 0, 1, 1, 2, 2]
    await client.aclose()
