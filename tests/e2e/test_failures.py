"""Each way in which a model or a sink can fail, through all processes: what becomes of messages.

All tasks run from the beginning, side by side, each with a model server of its own; each test then
looks at one of them.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.services import Service, answers
from tests.integration.sinks.receiver import Receiver
from tests.support.commands import Completed, sinfer
from tests.support.deployment import Connections, Deployment, Task, numbers, rows
from tests.support.scripted_model import Answer, ScriptedModel
from tests.support.until import until

pytestmark = pytest.mark.e2e

MESSAGES = 10
PATIENCE_S = 90.0
"""All tasks begin at once, and the first tests wait for most of that."""

BAD = 7


def _soon() -> str:
    """An HTTP date, which has whole seconds only."""
    return format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)


@dataclass
class Case:
    """One task, its model, and how often a window of it may be tried."""

    model: ScriptedModel
    max_attempts: int = 5
    task: Task | None = None


MAKERS: dict[str, Callable[[], Case]] = {
    # Enough failures to open the breaker (5 in a row), and more of them than there are attempts.
    **{
        f"away-{status}": lambda status=status: Case(  # type: ignore[misc]
            ScriptedModel(*[Answer(status)] * 6)
        )
        for status in (408, 502, 504)
    },
    "away-timeout": lambda: Case(ScriptedModel(*[Answer(0)] * 6)),
    **{
        f"not-begun-{status}": lambda status=status: Case(  # type: ignore[misc]
            ScriptedModel(*[Answer(status)] * 6), max_attempts=1
        )
        for status in (429, 503)
    },
    "seconds": lambda: Case(ScriptedModel(Answer(429, {"Retry-After": "2"})), max_attempts=1),
    "date": lambda: Case(ScriptedModel(Answer(503, {"Retry-After": _soon()})), max_attempts=1),
    "hiccup": lambda: Case(ScriptedModel(Answer(500)), max_attempts=1),
    "short": lambda: Case(ScriptedModel(Answer(short=True)), max_attempts=1),
    **{f"bad-{status}": lambda: Case(ScriptedModel()) for status in (400, 413, 422, 500)},
    **{f"wrong-{status}": lambda: Case(ScriptedModel()) for status in (401, 403, 404, 501)},
    "everything-400": lambda: Case(ScriptedModel(), max_attempts=2),
    "loading-400": lambda: Case(ScriptedModel(), max_attempts=1),
    "redriven": lambda: Case(ScriptedModel()),
    "dark": lambda: Case(ScriptedModel()),
    "light": lambda: Case(ScriptedModel()),
}


OTHERS = ("lost", "refused", "fallen", "locked")
"""Tasks whose model is well, but not their sinks."""


def _results_of(task: Task) -> dict[str, str]:
    """The JetStream sink of a task."""
    return {"type": "jetstream", "subject": task.results}


class World:
    """The deployment with all tasks under way."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.cases = {name: make() for name, make in MAKERS.items()}
        self.worker = deployment.worker()
        self.away = Receiver()
        self.refusing = Receiver()
        self.lock: sqlite3.Connection | None = None
        self._ending = ExitStack()

    def begin(self) -> None:
        for name, case in self.cases.items():
            kind, _, status = name.partition("-")
            if kind == "bad":
                case.model.refused[BAD] = int(status)
            if kind in ("wrong", "everything", "loading"):
                case.model.down = int(status)
            if kind == "loading":
                case.model.ready = 503
            if name == "redriven":
                case.model.refused |= {3: 400, BAD: 422}
            if name == "dark":
                case.model.down = 502
            self._ending.enter_context(case.model)
            case.task = self._order(name, case.model.url, case.max_attempts)
        for receiver in (self.away, self.refusing):
            self._ending.enter_context(receiver)
        self.away.answers.extend([(503, b"full")] * 12)
        self.refusing.answers.extend([(422, b"not like this")] * 100)
        self._order_with_sinks("lost", self.away, attempts=2)
        self._order_with_sinks("refused", self.refusing)
        self._order_with_sinks("fallen", self.refusing, fallback=True)

        locked = Task(self.deployment, "locked")
        self.lock = self._ending.enter_context(
            closing(sqlite3.connect(locked.database, isolation_level=None))
        )
        self.lock.execute("BEGIN EXCLUSIVE")
        sinks = [{**locked.sql, "timeout": "100ms"}, _results_of(locked)]
        self._order("locked", self.cases["light"].model.url, 1, sinks=sinks)

    def _order_with_sinks(
        self, name: str, receiver: Receiver, *, attempts: int = 5, fallback: bool = False
    ) -> None:
        task = Task(self.deployment, name)
        posts = {"type": "http", "url": receiver.url, "name": "posts"}
        parts: dict[str, Any] = {"sinks": [posts, _results_of(task)]}
        if fallback:
            parts["fallback"] = task.sql
        self._order(name, self.cases["light"].model.url, attempts, **parts)

    def _order(self, name: str, url: str, max_attempts: int, **parts: Any) -> Task:
        return self.deployment.order(
            name,
            inference={
                "type": "v2", "url": url, "model": "example",
                "timeout": "500ms" if name == "away-timeout" else "20s",
                "retry_base": "50ms", "retry_max": "200ms",
            },
            limits={"lease": "30s", "max_attempts": max_attempts},
            **parts,
        )  # fmt: skip

    def task(self, name: str) -> tuple[Task, ScriptedModel]:
        case = self.cases[name]
        assert case.task is not None
        return case.task, case.model

    def end(self) -> None:
        self._ending.close()


@pytest.fixture(scope="module")
def world(deployment: Deployment) -> Iterator[World]:
    world = World(deployment)

    async def publish() -> None:
        connections = await Connections.open(deployment)
        try:
            for name in (*world.cases, *OTHERS):
                await connections.make_streams(Task(deployment, name))
            world.begin()
            for name in (*world.cases, *OTHERS):
                await connections.publish(Task(deployment, name), numbers(0, MESSAGES))
        finally:
            await connections.aclose()

    try:
        asyncio.run(publish())
        deployment.start(deployment.ingest(), world.worker, deployment.beat())
        yield world
    finally:
        world.end()


@pytest.fixture
async def connections(deployment: Deployment) -> AsyncIterator[Connections]:
    connections = await Connections.open(deployment)
    yield connections
    await connections.aclose()


async def assert_all_sunk(connections: Connections, task: Task, *, but: set[int] = set()) -> None:  # noqa: B006
    account = await connections.settled(task, MESSAGES, PATIENCE_S)
    assert (account.sunk, account.dead) == (MESSAGES - len(but), len(but))
    await connections.assert_one_result_each(task, set(range(MESSAGES)) - but)


async def status_of(deployment: Deployment, task: Task) -> dict[str, Any]:
    """What `sinfer status` says of a task."""
    [standing] = json.loads(await command(deployment, "status", "--task", task.id, "--json"))
    return dict(standing)


async def command(deployment: Deployment, *words: str) -> str:
    """What a command writes to stdout."""
    return (await completed(deployment, *words)).out


async def completed(deployment: Deployment, *words: str) -> Completed:
    answer = await sinfer(deployment, *words)
    assert answer.code == 0, answer
    return answer


async def scrape(deployment: Deployment) -> str:
    """What `sinfer metrics` serves."""
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    words = ["sinfer", "metrics", "--port", str(port)]
    service = Service(f"metrics{port}", words, answers(url), deployment.place)

    def run() -> str:
        service.start()
        try:
            service.wait_until_ready()
            return str(urllib.request.urlopen(url).read(), "utf-8")
        finally:
            service.stop()

    return await asyncio.to_thread(run)


# --- what waits: first while it is unavailable, then when it is back ---


async def test_while_a_breaker_is_open_its_windows_wait_and_other_tasks_go_on(
    world: World, connections: Connections
) -> None:
    dark, model = world.task("dark")
    light, _ = world.task("light")
    await until(lambda: len(model.calls) > 5, "more failures than there are attempts", PATIENCE_S)
    await assert_all_sunk(connections, light)
    account = await connections.account(dark)
    assert (account.held, account.dead) == (MESSAGES, 0)
    trouble = (await status_of(world.deployment, dark))["trouble"]
    assert any("model is away since" in line and "502" in line for line in trouble), trouble
    model.down = 0
    await assert_all_sunk(connections, dark)
    trouble = (await status_of(world.deployment, dark))["trouble"]
    assert not any("away" in line for line in trouble), trouble


async def test_a_sink_that_is_away_is_told_and_gets_each_window_once_when_it_is_back(
    world: World, connections: Connections
) -> None:
    lost = Task(world.deployment, "lost")
    posts = world.away.posts
    await connections.settled(lost, MESSAGES, PATIENCE_S)
    assert (await connections.account(lost)).dead == 0
    assert len(posts) == 13  # twelve were refused, with two attempts in all
    assert len({post.headers["idempotency-key"] for post in posts}) == 1
    assert len({post.body for post in posts}) == 1
    results = await connections.results(lost)
    assert Counter(row["id"] for row in results) == Counter(range(MESSAGES))


async def test_a_database_that_is_away_holds_up_no_other_sink_and_burns_no_attempt(
    world: World, connections: Connections
) -> None:
    task = Task(world.deployment, "locked")
    assert world.lock is not None

    async def is_told() -> bool:
        trouble = (await status_of(world.deployment, task))["trouble"]
        return any("sink sql-0 is away since" in line and "locked" in line for line in trouble)

    await until(is_told, "the status to tell", PATIENCE_S)
    results = await connections.results(task)
    assert Counter(row["id"] for row in results) == Counter(range(MESSAGES))
    world.lock.execute("ROLLBACK")
    await assert_all_sunk(connections, task)


@pytest.mark.parametrize("name", ["refused", "fallen"])
async def test_what_a_sink_refuses_for_good_goes_to_the_fallback_or_the_dead_letters(
    world: World, connections: Connections, name: str
) -> None:
    task = Task(world.deployment, name)
    account = await connections.settled(task, MESSAGES, PATIENCE_S)
    results = await connections.results(task)
    assert Counter(row["id"] for row in results) == Counter(range(MESSAGES))
    letters = await connections.dead_letters(task)
    if name == "fallen":
        assert (account.sunk, letters) == (MESSAGES, [])
        assert Counter(row["id"] for row in rows(task)) == Counter(range(MESSAGES))
    else:
        assert (account.sunk, len(letters)) == (0, MESSAGES)
        assert {letter.stage for letter in letters} == {"sink"}
        assert all("422 not like this" in letter.error for letter in letters)
        assert {letter.attempts for letter in letters} == {1}


async def test_what_no_call_can_help_pauses_the_task_loudly_until_it_is_resumed(
    world: World, connections: Connections
) -> None:
    deployment = world.deployment
    tasks = {status: world.task(f"wrong-{status}") for status in (401, 403, 404, 501)}

    async def are_paused() -> bool:
        lines = (await command(deployment, "status")).splitlines()
        return all(
            any(
                line.startswith(f"! {deployment.product}/{task.id}: PAUSED (processing: ")
                and f": {status} " in line
                for line in lines
            )
            for status, (task, _) in tasks.items()
        )

    await until(are_paused, "the pauses", PATIENCE_S)
    metrics = await scrape(deployment)
    for task, model in tasks.values():
        label = f'{{product="{deployment.product}",task="{task.id}"}}'
        assert f"sinfer_paused{label} 1.0" in metrics
        assert len(model.calls) <= 2  # each of the two processes may have to learn it by itself
        assert (await connections.account(task)).held == MESSAGES
        model.down = 0
        await command(deployment, "resume", "--product", deployment.product, "--task", task.id)
    for task, _ in tasks.values():
        await assert_all_sunk(connections, task)


async def test_a_model_that_refuses_everything_pauses_the_task_before_much_is_given_up(
    world: World, connections: Connections
) -> None:
    deployment = world.deployment
    task, model = world.task("everything-400")
    await connections.publish(task, numbers(MESSAGES, 8 * MESSAGES))

    async def is_paused() -> bool:
        found = json.loads(await command(deployment, "status", "--task", task.id, "--json"))
        return any("refuses everything" in standing["paused"] for standing in found)

    await until(is_paused, "the pause", PATIENCE_S)
    await until(lambda: model.at_once == 0, "the calls under way")
    letters = await connections.dead_letters(task)
    account = await connections.account(task)
    assert account.dead == len(letters) <= 2 * MESSAGES
    paused = (await status_of(deployment, task))["paused"]
    assert f"{task.subject} 1-" in paused if letters else "no message was given up" in paused
    assert len(model.calls) < 8 * (2 * MESSAGES - 1)  # that many to ask about each message alone
    model.down = 0
    ids = ("--product", deployment.product, "--task", task.id)
    await command(deployment, "resume", *ids)
    await command(deployment, "dlq", "redrive", *ids, "--all")
    await connections.settled(task, 8 * MESSAGES, PATIENCE_S)
    await connections.assert_one_result_each(task, set(range(8 * MESSAGES)))


async def test_a_model_that_is_still_loading_refuses_nothing(
    world: World, connections: Connections
) -> None:
    task, model = world.task("loading-400")

    async def is_told() -> bool:
        words = ("status", "--task", task.id, "--json")
        [*found] = json.loads(await command(world.deployment, *words))
        return any("the model is not ready" in str(standing["trouble"]) for standing in found)

    await until(is_told, "the model's outage in status", PATIENCE_S)
    assert model.calls == []
    model.down, model.ready = 0, 200
    await assert_all_sunk(connections, task)


# --- what is tried again ---


@pytest.mark.parametrize(
    "name",
    ["away-408", "away-502", "away-504", "away-timeout", "not-begun-429", "not-begun-503"],
)
async def test_a_model_that_is_away_costs_no_message_and_blames_no_item(
    world: World, connections: Connections, name: str
) -> None:
    task, model = world.task(name)
    await assert_all_sunk(connections, task)
    assert {tuple(call.rows) for call in model.calls} == {tuple(range(MESSAGES))}
    assert len(model.calls) >= 7
    assert len({call.key for call in model.calls}) == 1


@pytest.mark.parametrize("name", ["seconds", "date"])
async def test_retry_after_is_obeyed(world: World, connections: Connections, name: str) -> None:
    task, model = world.task(name)
    await assert_all_sunk(connections, task)
    first, second = (call.at for call in model.calls[:2])
    if name == "seconds":
        assert second - first >= 2.0
    else:
        assert second > first


async def test_a_500_is_tried_once_more(world: World, connections: Connections) -> None:
    task, model = world.task("hiccup")
    await assert_all_sunk(connections, task)
    assert [len(call.rows) for call in model.calls] == [MESSAGES, MESSAGES]


async def test_a_result_too_few_never_shifts_the_others(
    world: World, connections: Connections
) -> None:
    task, _ = world.task("short")
    await assert_all_sunk(connections, task)


# --- what is looked for ---


@pytest.mark.parametrize("status", [400, 413, 422, 500])
async def test_the_item_that_a_model_refuses_is_found_and_given_up_alone(
    world: World, connections: Connections, status: int
) -> None:
    task, model = world.task(f"bad-{status}")
    await assert_all_sunk(connections, task, but={BAD})
    [letter] = await connections.dead_letters(task)
    assert json.loads(letter.message.data) == {"id": BAD}
    assert str(status) in letter.error
    assert (letter.stage, letter.attempts) == ("inference", 1)
    calls = [call.rows for call in model.calls]
    assert calls[0] == list(range(MESSAGES))
    assert len(calls) <= (14 if status == 500 else 9)
    if status == 500:  # each refused request was sent once more
        refused = Counter(tuple(rows) for rows in calls if BAD in rows)
        assert set(refused.values()) == {2}


# --- what is given up ---


async def test_dead_letters_are_found_by_filters_and_redriven_with_a_bar(
    world: World, connections: Connections
) -> None:
    task, model = world.task("redriven")
    await assert_all_sunk(connections, task, but={3, BAD})

    async def listed(*words: str) -> list[int]:
        text = await command(world.deployment, "dlq", "list", "--task", task.id, *words, "--json")
        return sorted(letter["seq"] for letter in json.loads(text))

    assert await listed("--since", "1h", "--stage", "inference", "--seq", "1-9") == [4, 8]
    assert await listed("--error", "422") == [8]
    assert await listed("--until", "1h") == []

    model.refused.clear()
    redrive = ("dlq", "redrive", "--task", task.id)
    done = await completed(world.deployment, *redrive, "--error", "422", "--rate", "50")
    assert done.out == "1 letters went back, in 1 windows.\n"
    assert f"redriving {task.id}" in done.err
    assert "1/1" in done.err
    await assert_all_sunk(connections, task, but={3})
    await command(world.deployment, *redrive, "--all")
    await assert_all_sunk(connections, task)


def test_the_log_of_a_worker_tells_of_its_windows_and_not_of_ticks(world: World) -> None:
    text = world.worker.process.log.read_text()
    assert "Task sinfer.process[" in text
    assert "Task sinfer.tick[" not in text
    assert "Traceback" not in text
