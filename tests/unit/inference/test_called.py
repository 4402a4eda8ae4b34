"""What is counted together, by breaker and cap, is a model and not the server that has it."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer.inference.base import InferenceClient, InferenceConfig
from sinfer.worker.ready_task import ReadyTask
from tests.support.task_settings import Threshold, product_of, settings_of

HOST = "http://Models:8000"


def called(**settings: Any) -> str:
    task = Threshold.model_validate(settings_of("t", inference=settings))
    return ReadyTask(None, product_of([]), task).client.called


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"type": "v2", "model": "a"}, {"type": "v2", "model": "b"}),
        ({"type": "v2", "model": "a"}, {"type": "v2", "model": "a", "version": "2"}),
        ({"type": "tfserving", "model": "a"}, {"type": "tfserving", "model": "a", "label": "new"}),
        ({"type": "torchserve", "model": "a"}, {"type": "torchserve", "model": "b"}),
        ({"type": "openai_chat", "model": "a"}, {"type": "openai_chat", "model": "b"}),
        ({"type": "openai_chat", "model": "a"}, {"type": "openai_embeddings", "model": "a"}),
        ({"type": "json", "url": f"{HOST}/a"}, {"type": "json", "url": f"{HOST}/b"}),
        ({"type": "json", "url": f"{HOST}/?m=a"}, {"type": "json", "url": f"{HOST}/?m=b"}),
    ],
)
async def test_models_of_one_server_are_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert called(**{"url": HOST, **one}) != called(**{"url": HOST, **other})


async def test_tasks_that_call_the_same_model_share_what_is_known_of_it() -> None:
    one = called(type="v2", url=HOST, model="a", version="1", timeout="1s", max_concurrency=2)
    assert one == called(type="v2", url=f"{HOST.lower()}/v2/", model="a", version="1")
    assert one == "v2 http://models:8000 a:1"


async def test_no_secret_of_a_url_is_in_a_name() -> None:
    name = called(type="json", url="http://me:hidden@models/x?key=hidden")
    assert "hidden" not in name
    assert "me" not in name.replace("models", "")


async def test_a_task_is_by_itself_where_its_client_names_no_server() -> None:
    class Own(InferenceClient):
        async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
            return request

    assert Own(InferenceConfig(type="own")).called == ""
