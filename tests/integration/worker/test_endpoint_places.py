"""Who gets a place at an endpoint: shares, deadlines, and as many as the endpoint bears."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from sinfer.aio.cancel import end
from sinfer.embedded.servers import RedisServer
from sinfer.errors import InferenceUnavailableError, UnavailableError
from sinfer.inference.v2.config import V2Config
from sinfer.store.boards.endpoints import EndpointState, Place
from sinfer.store.connection import Store
from sinfer.store.wakes import WakeListener
from sinfer.worker.endpoint_guard import EndpointGuard
from tests.support.until import until

pytestmark = pytest.mark.integration

ENDPOINT = "model"


def config(**settings: object) -> V2Config:
    return V2Config.model_validate(
        {"type": "v2", "url": "http://model", "model": "m", "timeout": "2s", **settings}
    )


@pytest.fixture
async def wakes(store: Store) -> AsyncIterator[WakeListener]:
    listener = WakeListener(store, lambda *_: None)
    listening = asyncio.create_task(listener.run())
    await until(lambda: bool(listener.name))
    yield listener
    await end(listening)


def guard_of(
    store: Store, task: str, wakes: WakeListener | None = None, **settings: object
) -> EndpointGuard:
    return EndpointGuard(store, ENDPOINT, config(**settings), task=f"p/{task}", wakes=wakes)


class Calls:
    """Calls that wait for a place, or have one until they are told to end.

    Attributes:
        begun: their names, in the order in which they got their places.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.begun: list[str] = []
        self._ends = asyncio.Semaphore(0)
        self._calls: list[asyncio.Task[None]] = []

    async def begin(self, guard: EndpointGuard, name: str, due_s: float | None = None) -> None:
        """Begin a call, and wait until it has a place or is known to wait for one."""
        due_s = None if due_s is None else time.monotonic() + due_s
        before = len(self.begun)

        async def call() -> None:
            async with guard.slot(1, due_s):
                self.begun.append(name)
                await self._ends.acquire()

        self._calls.append(asyncio.create_task(call()))

        async def is_known() -> bool:
            waiting = guard._places._line or await self._waiting()
            return len(self.begun) > before or bool(waiting)

        await until(is_known)

    async def wait_for(self, waiting: int) -> None:
        """Wait until so many wait in Redis."""

        async def do_wait() -> bool:
            return await self._waiting() == waiting

        await until(do_wait)

    async def _waiting(self) -> int:
        return int(await self._store.redis.hlen(f"sinfer:endpoint:{{{ENDPOINT}}}:waiting"))

    async def end(self, calls: int = 1) -> None:
        """Have so many calls end, one after the other, each when another has the place."""
        for _ in range(calls):
            begun = len(self.begun)
            self._ends.release()
            await until(lambda begun=begun: len(self.begun) > begun)  # type: ignore[misc]

    async def end_all(self) -> None:
        for _ in self._calls:
            self._ends.release()
        await asyncio.gather(*self._calls)


async def test_of_one_task_those_go_first_whose_results_are_due_first(
    store: Store, wakes: WakeListener
) -> None:
    guard = guard_of(store, "a", wakes, endpoint_concurrency=1)
    calls = Calls(store)
    await calls.begin(guard, "under way")
    for name, due_s in (("never", None), ("third", 9.0), ("first", 1.0), ("second", 5.0)):
        await calls.begin(guard, name, due_s)
    await calls.end(4)
    assert calls.begun == ["under way", "first", "second", "third", "never"]
    await calls.end_all()


async def test_of_several_tasks_as_well(store: Store, wakes: WakeListener) -> None:
    guards = [guard_of(store, name, wakes, endpoint_concurrency=1) for name in "abcd"]
    calls = Calls(store)
    await calls.begin(guards[0], "under way")
    dues = (9.0, 1.0, 5.0)
    for number, (guard, due_s) in enumerate(zip(guards[1:], dues, strict=True), 1):
        await calls.begin(guard, f"due in {due_s}", due_s)
        await calls.wait_for(number)
    await calls.end(3)
    assert calls.begun[1:] == ["due in 1.0", "due in 5.0", "due in 9.0"]
    await calls.end_all()


async def test_a_flood_of_one_task_leaves_another_its_share(
    store: Store, wakes: WakeListener
) -> None:
    """However early the results of the flood are due: they are late, and stay late."""
    flood, other = (guard_of(store, name, wakes, endpoint_concurrency=4) for name in "ab")
    calls = Calls(store)
    for _ in range(4):
        await calls.begin(flood, "flood")
    for _ in range(20):
        await calls.begin(flood, "flood", -10.0)
    await calls.wait_for(1)
    await calls.begin(other, "other", 5.0)
    await calls.begin(other, "other", 5.0)
    await calls.begin(other, "other", 5.0)
    await calls.wait_for(2)
    await calls.end(4)
    assert calls.begun[4:6] == ["other", "other"], "two of four places are its share"
    assert calls.begun[6:] == ["flood", "flood"], "beyond that the earliest go first"
    await calls.end_all()


async def test_the_share_of_one_that_has_nothing_to_do_is_used(
    store: Store, wakes: WakeListener
) -> None:
    guard = guard_of(store, "a", wakes, endpoint_concurrency=4)
    calls = Calls(store)
    for _ in range(6):
        await calls.begin(guard, "a")
    assert len(calls.begun) == 4
    await calls.end_all()


async def test_a_place_is_passed_on_at_once_without_asking_again(
    store: Store, wakes: WakeListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (guard_of(store, name, wakes, endpoint_concurrency=1) for name in "ab")
    asked: list[str] = []
    take = EndpointState.take_place

    async def noting(state: EndpointState, place: Place, **how: object) -> tuple[bool, int]:
        asked.append(place.task)
        return await take(state, place, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(EndpointState, "take_place", noting)
    monkeypatch.setattr("sinfer.worker.endpoint_places._ASK_AGAIN_S", 300.0)
    calls = Calls(store)
    await calls.begin(one, "one")
    await calls.begin(other, "other")
    await calls.wait_for(1)
    await calls.end()
    assert asked == ["p/a", "p/b", "p/b"], "to take it, and once more when it was given"
    await calls.end_all()


async def test_without_a_word_of_it_a_place_is_found_all_the_same(store: Store) -> None:
    one, other = (guard_of(store, name, endpoint_concurrency=1) for name in "ab")
    calls = Calls(store)
    await calls.begin(one, "one")
    await calls.begin(other, "other")
    await calls.wait_for(1)
    await calls.end()
    assert calls.begun == ["one", "other"]
    await calls.end_all()


async def test_one_that_died_while_it_waited_holds_up_nobody(
    store: Store, wakes: WakeListener
) -> None:
    one, other = (guard_of(store, name, wakes, endpoint_concurrency=1) for name in "ab")
    calls = Calls(store)
    await calls.begin(one, "one")
    state = EndpointState(store, ENDPOINT, 7000)
    dead = Place("dead", "p/c", 1, learns=False)
    await state.take_place(dead, due_ms=0, wait_ms=60_000, channel="sinfer:wake:nobody")
    await calls.begin(other, "other", 5.0)
    await calls.wait_for(2)
    await calls.end()
    assert calls.begun == ["one", "other"]
    await calls.end_all()


async def test_a_call_that_is_broken_off_while_it_waits_takes_no_place(
    store: Store, wakes: WakeListener
) -> None:
    one, other = (guard_of(store, name, wakes, endpoint_concurrency=1) for name in "ab")
    async with AsyncExitStack() as held:
        await held.enter_async_context(one.slot(1, None))

        async def call() -> None:
            async with other.slot(1, None):
                raise AssertionError("it was broken off")

        waiting = [asyncio.create_task(call()) for _ in range(3)]
        await until(lambda: bool(other._places._line))
        await end(*waiting)

    async def nobody_waits() -> bool:
        return not await store.redis.keys(f"sinfer:endpoint:{{{ENDPOINT}}}:[sw]*")

    await until(nobody_waits)
    async with one.slot(1, None):
        pass


async def test_who_waits_hears_of_it_when_redis_is_away(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        store = Store(server.url)
        one, other = (guard_of(store, name, endpoint_concurrency=1) for name in "ab")
        async with one.slot(1, None):

            async def call() -> None:
                async with other.slot(1, None):
                    raise AssertionError("there is no place")

            waiting = [asyncio.create_task(call()) for _ in range(3)]
            await until(lambda: bool(other._places._line))
            server.process.kill()
            found = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(error) for error in found} == {UnavailableError}
        await store.aclose()


# --- as many as the endpoint bears ---


class Model:
    """A model that works on so many calls at once, and has others wait, or refuses them."""

    def __init__(self, places: int, *, refuses: bool = False) -> None:
        self._places = asyncio.Semaphore(places)
        self._most = places
        self._refuses = refuses
        self._inside = 0
        self.answered = self.refused = 0
        self.at_once: list[int] = []

    async def call(self) -> None:
        self._inside += 1
        self.at_once.append(self._inside)
        try:
            if self._refuses and self._inside > self._most:
                self.refused += 1
                raise InferenceUnavailableError("too many", status=429, not_begun=True)
            async with self._places:
                await asyncio.sleep(0.01 * random.uniform(0.8, 1.2))
            self.answered += 1
        finally:
            self._inside -= 1


@pytest.mark.parametrize("refuses", [False, True], ids=["queues", "refuses"])
async def test_processes_learn_together_how_many_calls_a_model_bears(
    store: Store, wakes: WakeListener, refuses: bool
) -> None:
    model = Model(6, refuses=refuses)
    limits: list[int] = []
    settings = config(max_concurrency="auto")
    guards = [
        EndpointGuard(store, ENDPOINT, settings, task="p/a", wakes=wakes, learned=limits.append)
        for _ in range(3)
    ]

    async def call(guard: EndpointGuard) -> None:
        while model.answered < 1500:
            try:
                async with guard.slot(5, None):
                    await model.call()
            except InferenceUnavailableError:
                await asyncio.sleep(0.005)

    await asyncio.gather(*(call(guard) for guard in guards for _ in range(20)))
    late = model.at_once[-500:]
    assert 2 <= sum(late) / len(late) <= 14, "of sixty that would be made at once"
    assert 2 <= limits[-1] <= 20
    if refuses:
        assert model.refused < 150
    assert await store.redis.ttl(f"sinfer:endpoint:{{{ENDPOINT}}}:learned") > 0


async def test_what_is_learned_stays_below_what_is_allowed(
    store: Store, wakes: WakeListener
) -> None:
    model = Model(50)
    guard = guard_of(store, "a", wakes, max_concurrency="auto", endpoint_concurrency=3)

    async def call() -> None:
        async with guard.slot(1, None):
            await model.call()

    await asyncio.gather(*(call() for _ in range(100)))
    assert max(model.at_once) <= 3
