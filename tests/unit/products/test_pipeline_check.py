"""A pipeline that cannot work is refused when its product loads, with the remedy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial, wraps
from typing import Any

import pytest

from sinfer import InferPipeline, InferTaskConfig, Message, Product, Result, StaticTaskManager
from sinfer.errors import ConfigError, HookError
from tests.support.task_settings import settings_of


async def _later(*_: Any) -> Any:
    """What an author may think to be awaited."""


async def _stream(*_: Any) -> AsyncIterator[Any]:
    yield 1


def _each(*_: Any) -> Iterator[Any]:
    yield 1


class _Called:
    async def __call__(self, item: Any) -> str:
        return "key"


def _wrapped(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    @wraps(function)
    async def outer(self: Any, item: Any) -> Any:
        return function(self, item)

    return outer


class Good(InferPipeline[InferTaskConfig, int]):
    def preprocess(self, message: Message) -> int | None:
        return int(message.data)

    def build_request(self, window: Any) -> Any:
        return list(window)

    def build_results(self, window: Any, response: Any) -> list[Result]:
        return [Result(n) for n in window]


def product(**parts: Any) -> Product:
    return Product("p", tasks=StaticTaskManager([]), pipeline=type("Mine", (Good,), parts))


@pytest.mark.parametrize("version", [2, None, "x" * 65, "a\nb", property(lambda self: "2")])
def test_a_version_is_a_short_text(version: Any) -> None:
    with pytest.raises(ConfigError, match=r"Mine\.version is .*; it must be a text of at most 64"):
        product(version=version)
    assert product(version="2026-11-27 v2 / 1f3c").pipeline.version == "2026-11-27 v2 / 1f3c"


AWAITED = "is 'async def', but nobody awaits it; make it a plain 'def'"


@pytest.mark.parametrize("hook", ["preprocess", "key", "event_time", "item_id", "close_when"])
@pytest.mark.parametrize(
    "function",
    [
        _later,
        staticmethod(_later),
        classmethod(_later),
        partial(_later, 1),
        _wrapped(lambda self, item: item),
        _Called(),
    ],
    ids=["method", "static", "class", "partial", "wrapped", "object"],
)
def test_an_async_hook_that_nobody_awaits_is_refused(hook: str, function: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        product(**{hook: function})
    assert str(caught.value) == f"product 'p': Mine.{hook} {AWAITED}"


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"preprocess": _stream}, "Mine.preprocess is an async generator"),
        ({"build_results": _stream}, "Mine.build_results is an async generator"),
        ({"build_request": staticmethod(_stream)}, "Mine.build_request is an async generator"),
        ({"key": _each}, "Mine.key is a generator; return a value"),
        ({"key": "name"}, "Mine.key is 'name', not a method"),
        ({"key": lambda self: "k"}, "Mine.key cannot be called with (item); its parameters are"),
        ({"key": lambda self, item, more: "k"}, "Mine.key cannot be called with (item)"),
        ({"build_results": lambda self, window: []}, "with (window, response); its parameters"),
        ({"close_when": staticmethod(lambda window: True)}, "with (window, item); its parameters"),
        ({"results_per": "items"}, "Mine.results_per is 'items'; it must be one of 'item', 'win"),
        ({"results_per": ("item",)}, "Mine.results_per is ('item',); it must be one of"),
        ({"results_per": None}, "Mine.results_per is None; it must be one of"),
    ],
)
def test_what_cannot_be_called_as_it_will_be_is_refused(parts: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        product(**parts)
    assert told in str(caught.value)


def test_a_pipeline_that_lacks_a_hook_is_refused() -> None:
    class Half(InferPipeline[InferTaskConfig, int]):
        def preprocess(self, message: Message) -> int | None:
            return 1

    with pytest.raises(ConfigError, match="Half lacks build_request, build_results"):
        Product("p", tasks=StaticTaskManager([]), pipeline=Half)  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    "parts",
    [
        {"key": lambda self, item: "k"},
        {"key": staticmethod(lambda item: "k")},
        {"key": classmethod(lambda cls, item: "k")},
        {"key": lambda self, *args, **kwargs: "k"},
        {"build_request": _later},
        {"build_results": _each},
        {"key": property(lambda self: len)},
    ],
)
def test_whatever_can_be_called_is_taken(parts: dict[str, Any]) -> None:
    assert product(**parts).pipeline.__name__ == "Mine"


@pytest.mark.parametrize("refresh", [None, "5s", float("nan"), float("inf"), -1])
def test_a_manager_that_cannot_say_when_to_be_asked_is_refused(refresh: Any) -> None:
    class Manager(StaticTaskManager[InferTaskConfig]):
        pass

    Manager.refresh = refresh
    with pytest.raises(ConfigError, match=r"Manager\.refresh is .*; it must be a number of sec"):
        Product("p", tasks=Manager([]), pipeline=Good)


SETTINGS = settings_of("t", window={"type": "count", "count": 1})
TASK = InferTaskConfig.model_validate(SETTINGS)


def _exits(self: Any, task: Any) -> None:
    raise SystemExit(5)


def _forgets(self: Any, task: Any) -> None:
    """Without ``super().__init__``."""


def _mistypes(self: Any, task: Any) -> None:
    Good.__init__(self, task)
    self.results_per = "itme"


@pytest.mark.parametrize(
    ("init", "told"),
    [
        (_exits, "its pipeline cannot be made: SystemExit: 5"),
        (_forgets, r"its __init__ must call super\(\).__init__\(task\)"),
        (_mistypes, "results_per is 'itme'"),
    ],
)
def test_a_pipeline_that_cannot_be_made_is_a_mistake_of_its_task(init: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        product(__init__=init).make_pipeline(TASK)
    assert str(caught.value).startswith("product 'p', task 't': its pipeline")


@pytest.mark.parametrize("per", ["window", "any"])
def test_calls_are_shared_only_where_results_belong_to_items(per: str) -> None:
    inference = TASK.inference.model_copy(update={"share_calls": 64})
    task = TASK.model_copy(update={"inference": inference})
    product().make_pipeline(task)
    with pytest.raises(ConfigError, match=r"inference\.share_calls .* needs results_per = 'item'"):
        product(results_per=per).make_pipeline(task)


class Manager(StaticTaskManager[InferTaskConfig]):
    def __init__(self, answer: Callable[[], Any]) -> None:
        super().__init__([])
        self._answer = answer

    def list_tasks(self) -> Any:
        return self._answer()


def _exit() -> Any:
    raise SystemExit(6)


def _breaks_off() -> Any:
    yield {"id": "a"}
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (_exit, "list_tasks: SystemExit: 6"),
        (_breaks_off, "list_tasks: KeyboardInterrupt"),
        (lambda: None, "list_tasks: TypeError: 'NoneType' object is not iterable"),
        (_stream, "list_tasks: TypeError: 'async_generator' object is not iterable"),
    ],
)
async def test_a_manager_that_cannot_answer_is_an_error_with_its_text(
    answer: Callable[[], Any], told: str
) -> None:
    mine = Product("p", tasks=Manager(answer), pipeline=Good)
    with pytest.raises(HookError) as caught:
        await mine.list_tasks()
    assert str(caught.value).startswith(told)


async def test_a_task_whose_settings_are_hostile_harms_no_other() -> None:
    class Hostile(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise SystemExit(7)

    class Copied(dict[str, Any]):
        def __deepcopy__(self, _: Any) -> Any:
            raise SystemExit(8)

    class Compared(dict[str, Any]):
        def __eq__(self, _: object) -> bool:
            raise SystemExit(9)

    compared = Compared(SETTINGS | {"id": "c"})
    tasks = [Hostile(), Copied(id="b"), compared, TASK]
    mine = Product("p", tasks=Manager(lambda: tasks), pipeline=Good)
    for _ in range(2):
        listed = await mine.list_tasks()
        assert list(listed.tasks) == ["c", "t"]
        assert listed.problems.keys() == {"task 1", "b"}
        assert "SystemExit: 7" in listed.problems["task 1"]
        assert "SystemExit: 8" in listed.problems["b"]
        assert not listed.complete
