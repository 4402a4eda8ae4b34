"""A wrong task says product, task, field, value and remedy, and harms no other task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import pytest

from sinfer import (
    ConfigError,
    InferPipeline,
    InferTaskConfig,
    Message,
    Product,
    Result,
    StaticTaskManager,
    TaskManager,
    Window,
)
from sinfer.products.product import TaskList


class OwnTask(InferTaskConfig):
    threshold: float = 0.5


class OwnPipeline(InferPipeline[OwnTask, bytes]):
    def preprocess(self, message: Message) -> bytes | None:
        return message.data

    def build_request(self, window: Window[bytes]) -> Any:
        return list(window)

    def build_results(self, window: Window[bytes], response: Any) -> list[Result]:
        return [Result(item) for item in window]


TASK: dict[str, Any] = {
    "id": "t",
    "source": {"stream": "IN", "subject": "in.*"},
    "window": {"type": "tumbling", "size": "5s", "max_count": 100},
    "inference": {"type": "v2", "url": "http://127.0.0.1:8000", "model": "m"},
    "sinks": [{"type": "log"}],
}


def task(change: Callable[[dict[str, Any]], Any] | None = None, **values: Any) -> dict[str, Any]:
    made = copy.deepcopy(TASK) | values
    if change is not None:
        change(made)
    return made


async def listed(*tasks: Any) -> TaskList:
    product = Product("p", tasks=StaticTaskManager(list(tasks)), pipeline=OwnPipeline)
    return await product.list_tasks()


async def test_a_product_adds_its_own_settings() -> None:
    found = await listed(task(threshold=0.75))
    assert found.problems == {}
    own = found.tasks["t"]
    assert isinstance(own, OwnTask)
    assert own.threshold == 0.75


async def test_a_task_may_be_made_in_code() -> None:
    made = OwnTask.model_validate(TASK)
    assert (await listed(made)).tasks == {"t": made}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t: t.pop("source"), ["source: is required; add it"]),
        (lambda t: t.update(treshold=1), ["treshold: unknown key; did you mean 'threshold'?"]),
        (
            lambda t: t["window"].update(sise="5s"),
            ["window.sise: unknown key; did you mean 'size'?"],
        ),
        (lambda t: t["window"].update(size="5 parsecs"), ["window.size", "5 parsecs"]),
        (lambda t: t["window"].update(size="0s"), ["window", "size must be at least 1ms"]),
        (lambda t: t["window"].update(max_count=0), ["window.max_count", "got 0"]),
        (lambda t: t["window"].update(type="hopping"), ["window", "'hopping'", "'sliding'"]),
        (lambda t: t["window"].update(idle="5s"), ["idle only makes sense in event time"]),
        (lambda t: t["source"].update(subject="in..x"), ["source.subject", "'in..x'"]),
        (lambda t: t["source"].update(ack="later"), ["source.ack", "'stored'", "'later'"]),
        (lambda t: t["inference"].update(type="v3"), ["inference", "'v3' is unknown", "v2)"]),
        (lambda t: t["inference"].pop("model"), ["inference", "model", "add it"]),
        (lambda t: t["inference"].update(timeout="0s"), ["inference", "timeout"]),
        (
            lambda t: t["inference"].update(modle="x"),
            ["inference.modle: unknown key; did you mean 'model'?"],
        ),
        (lambda t: t["window"].update(zzz=1), ["window.zzz: unknown key; remove it"]),
        (lambda t: t["window"].pop("type"), ["window.type: is required; add it"]),
        (lambda t: t["window"].pop("size"), ["window.size: is required; add it"]),
        (lambda t: t["source"].update(deliver={"seq": 0}), ["source.deliver.seq: ", "got 0"]),
        (
            lambda t: t.update(window={"type": "count", "count": 5, "max_cuont": 6}),
            ["task 't': window.max_cuont: unknown key; did you mean 'max_count'?"],
        ),
        (
            lambda t: t.update(window={"type": "count", "count": "five"}),
            ["task 't': window.count: ", "'five'"],
        ),
        (lambda t: t["sinks"].append({"type": "sqll"}), ["sinks.1", "did you mean 'sql'"]),
        (lambda t: t["sinks"].clear(), ["sinks", "at least 1"]),
        (lambda t: t.update(id="a b"), ["id", "'a b'"]),
        (lambda t: t.update(limits={"lease": "10ms"}), ["limits", "at least 1s"]),
        (lambda t: t.update(threshold="high"), ["threshold", "'high'"]),
    ],
)
async def test_a_wrong_task_is_told_by_field_value_and_remedy(
    change: Callable[[dict[str, Any]], Any], told: list[str]
) -> None:
    wrong = task(change)
    found = await listed(wrong, task(id="good"))
    assert list(found.tasks) == ["good"]
    [(label, problem)] = found.problems.items()
    assert label == wrong["id"]
    assert problem.startswith(f"product 'p', task {wrong['id']!r}: ")
    for part in told:
        assert part in problem, problem
    assert "pydantic" not in problem
    assert "validation error" not in problem


async def test_all_mistakes_of_a_task_are_told_at_once() -> None:
    def change(t: dict[str, Any]) -> None:
        t["window"]["size"] = "never"
        t["sinks"] = []

    [problem] = (await listed(task(change))).problems.values()
    assert len(problem.splitlines()) == 2


@pytest.mark.parametrize("wrong", [{}, {"id": None}, 7, None, "ex_1"])
async def test_what_is_no_task_at_all_is_told_by_its_place(wrong: Any) -> None:
    found = await listed(task(), wrong)
    assert list(found.tasks) == ["t"]
    assert list(found.problems) == ["task 2"]


async def test_of_two_tasks_with_one_id_the_first_counts() -> None:
    found = await listed(task(threshold=1), task(threshold=2))
    own = found.tasks["t"]
    assert isinstance(own, OwnTask)
    assert own.threshold == 1
    assert "used by two tasks" in found.problems["t"]


async def test_secrets_are_not_told() -> None:
    wrong = task(
        lambda t: t["inference"].update(url="http://u:hunter2@", headers={"A": "hunter2\n"})
    )
    [problem] = (await listed(wrong)).problems.values()
    assert "hunter2" not in problem


async def test_a_task_manager_may_be_asynchronous() -> None:
    class Later(TaskManager[OwnTask]):
        async def list_tasks(self) -> Iterable[dict[str, Any]]:
            return [task()]

    product = Product("p", tasks=Later(), pipeline=OwnPipeline)
    assert list((await product.list_tasks()).tasks) == ["t"]


class TestProduct:
    manager: ClassVar[StaticTaskManager[Any]] = StaticTaskManager([])

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", "a" * 65, "é"])
    def test_its_name_goes_into_keys_and_queues(self, name: str) -> None:
        with pytest.raises(ConfigError, match="use letters, digits"):
            Product(name, tasks=self.manager, pipeline=OwnPipeline)

    def test_its_parts_are_of_the_right_kind(self) -> None:
        with pytest.raises(ConfigError, match="must be a TaskManager"):
            Product("p", tasks=[task()], pipeline=OwnPipeline)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="subclass of InferPipeline"):
            Product("p", tasks=self.manager, pipeline=Product)  # type: ignore[arg-type]


def sql(url: str, table: str = "results", **more: Any) -> dict[str, Any]:
    return {"type": "sql", "url": url, "table": table, **more}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (sql("sqlite:////tmp/a.db"), sql("sqlite:////tmp/./a.db?timeout=5")),
        (sql("sqlite:////tmp/a.db"), sql("sqlite:////tmp/a.db", columns={"y": "y"})),
        (sql("postgresql://me:x@db/d"), sql("postgresql+psycopg://you@DB:5432/d?sslmode=require")),
        (sql("mysql://db/d"), sql("mariadb+pymysql://db:3306/d", "Results")),
        (sql("postgresql://db/d", schema="s"), sql("postgresql://db/d", schema="s")),
    ],
    ids=["path", "columns", "url", "dialect and case", "schema"],
)
async def test_two_sinks_that_would_overwrite_each_others_rows_are_refused(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    for refused in (task(sinks=[one, other]), task(sinks=[one], fallback=other)):
        [problem] = (await listed(refused)).problems.values()
        assert "sql-0 and " in problem
        assert "write to one table, where each would replace the rows of the other" in problem
        assert "another table" in problem


@pytest.mark.parametrize(
    "other",
    [
        sql("postgresql://db/d", "more"),
        sql("postgresql://db/e"),
        sql("postgresql://db2/d"),
        sql("postgresql://db:5433/d"),
        sql("postgresql://db/d", schema="s"),
        sql("postgresql:///d?host=/run/a"),
    ],
)
async def test_two_sinks_of_different_tables_are_not(other: dict[str, Any]) -> None:
    found = await listed(task(sinks=[sql("postgresql://db/d"), other]))
    assert found.problems == {}


AT_HUB = {"servers": ["nats://hub:4222"], "domain": "hub"}


@pytest.mark.parametrize(
    ("source", "sink", "servers", "domain"),
    [
        ({}, {}, None, ""),
        (AT_HUB, {}, ["nats://hub:4222"], ""),
        (AT_HUB, {"servers": ["nats://own:4222"]}, ["nats://own:4222"], ""),
        (AT_HUB, {"domain": "own"}, ["nats://hub:4222"], "own"),
        ({"domain": "hub"}, {}, None, ""),
    ],
    ids=["neither", "source", "own servers", "own domain", "domain alone"],
)
def test_a_sink_that_names_no_servers_writes_to_those_of_the_source(
    source: dict[str, Any], sink: dict[str, Any], servers: list[str] | None, domain: str
) -> None:
    given = {"type": "jetstream", "subject": "out", **sink}
    config = InferTaskConfig.model_validate(
        task(source=TASK["source"] | source, sinks=[given], fallback=given)
    )
    for found in (*config.sinks, config.fallback):
        assert found is not None
        assert found.servers == servers  # type: ignore[attr-defined]
        assert found.domain == domain  # type: ignore[attr-defined]
    again = InferTaskConfig.model_validate_json(config.model_dump_json(exclude_unset=True))
    assert again.sinks == config.sinks
