"""What code of a product may do to the event loop of a worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from sinfer.aio.batching import Batcher
from sinfer.errors import HookError
from sinfer.hooks.call import Hook, last_called
from sinfer.worker.runtime import WorkerLoop

T = TypeVar("T")

Run = Callable[[Coroutine[Any, Any, T]], T]


@pytest.fixture
def loop() -> Iterator[WorkerLoop]:
    loop = WorkerLoop()
    yield loop
    loop.close()


def request(function: Callable[[], Any], task: str = "p/a") -> Hook:
    return Hook("request", "build_request", function, task=task)


def cancel_all() -> None:
    for task in asyncio.all_tasks():
        task.cancel()


def cancel_all_and_hide_it() -> None:
    for task in asyncio.all_tasks():
        try:
            task.cancel()
        except RuntimeError:
            continue


@pytest.mark.parametrize(
    "does",
    [
        lambda loop: loop.stop(),
        lambda loop: loop.close(),
        lambda loop: loop.set_task_factory(None),
        lambda loop: loop.set_exception_handler(None),
        lambda loop: loop.set_default_executor(None),
        lambda _: cancel_all(),
        lambda _: asyncio.current_task().cancel(),  # type: ignore[union-attr]
    ],
)
def test_a_hook_that_meddles_with_the_loop_fails_and_nothing_else(
    loop: WorkerLoop, does: Callable[[Any], Any]
) -> None:
    async def work() -> str:
        other = asyncio.create_task(asyncio.sleep(0.01, "done"))
        await asyncio.sleep(0)
        with pytest.raises(HookError, match="RuntimeError: a hook must not"):
            request(lambda: does(loop))()
        return await other

    assert loop.run_until_complete(work()) == "done"
    assert last_called().startswith("build_request of p/a")


@pytest.mark.parametrize("is_async", [False, True])
def test_what_hides_the_refusal_has_cancelled_nothing(loop: WorkerLoop, is_async: bool) -> None:
    async def later() -> None:
        cancel_all_and_hide_it()

    async def slow() -> str:
        await asyncio.sleep(0.01)
        return "an answer"

    async def work() -> tuple[str, str]:
        other = asyncio.create_task(asyncio.sleep(0.01, "done"))
        asked = asyncio.create_task(Hook("inference", "infer", lambda: slow(), task="p/b").wait())
        same = asyncio.create_task(request(lambda: slow()).wait())
        await asyncio.sleep(0)
        if is_async:
            with pytest.raises(HookError, match="CancelledError"):  # its own task it may cancel
                await request(later).wait()
        else:
            request(cancel_all_and_hide_it)()
        assert await same == "an answer"
        return await other, await asked

    assert loop.run_until_complete(work()) == ("done", "an answer")


def test_a_hook_may_cancel_what_it_began(loop: WorkerLoop) -> None:
    async def build() -> str:
        mine = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        mine.cancel()
        async with asyncio.timeout(60):
            await asyncio.wait({mine})
        try:
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        except TimeoutError:
            pass
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(60))
                raise ValueError("over")
        except* ValueError:
            pass
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.001)
        except TimeoutError:
            return "built"
        return ""

    assert loop.run_until_complete(request(build).wait()) == "built"


def test_a_client_may_end_what_another_call_of_it_began(loop: WorkerLoop) -> None:
    began: list[asyncio.Task[None]] = []

    async def write() -> None:
        began.append(asyncio.create_task(asyncio.sleep(60)))

    async def aclose() -> None:
        began[0].cancel()
        await asyncio.wait(began)

    async def work() -> None:
        await Hook("sink", "write", write, task="p/a").wait()
        await Hook("setup", "aclose", aclose, task="p/b").wait()

    loop.run_until_complete(work())
    assert began[0].cancelled()


def test_sinfer_cancels_a_hook_in_a_hook(loop: WorkerLoop) -> None:
    """The timeout around a client's call whose own function is a hook as well."""
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("inner")

    async def infer() -> Any:
        return await Hook("inference", "call", hang, task="p/a").wait()

    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Hook("inference", "infer", infer, task="p/a").wait()

    loop.run_until_complete(work())
    assert ended == ["inner"]


def test_calls_made_one_do_not_wait_for_one_that_was_cancelled(loop: WorkerLoop) -> None:
    async def call(_: Any) -> list[int]:
        asyncio.Task.cancel(asyncio.current_task())  # type: ignore[arg-type]
        await asyncio.sleep(60)
        return []

    async def work() -> None:
        ask: Callable[[int], Awaitable[int]] = Batcher(call)
        async with asyncio.timeout(5):
            found = await asyncio.gather(ask(1), ask(2), return_exceptions=True)
        assert all(isinstance(one, asyncio.CancelledError) for one in found)

    loop.run_until_complete(work())


def test_code_of_sinfer_may_cancel_the_call_in_hand_and_nothing_else(loop: WorkerLoop) -> None:
    """As time-outs of libraries do, to end what they wait for."""

    async def write(other: asyncio.Task[None]) -> str:
        mine = asyncio.current_task()
        assert mine is not None
        loop.call_soon(mine.cancel)
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        mine.uncancel()
        with pytest.raises(RuntimeError, match="which it has not begun"):
            other.cancel()
        return "written"

    async def work() -> str:
        other = asyncio.create_task(asyncio.sleep(60))
        try:
            return str(await Hook("sink", "write", write, is_ours=True).wait(other))
        finally:
            other.cancel()

    assert loop.run_until_complete(work()) == "written"
