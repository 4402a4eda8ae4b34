"""The thinner protocols: what they put on the wire, and what they make of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sinfer.embedded.example_model import expected
from sinfer.embedded.model_process import ModelServer
from sinfer.encoding import from_json
from sinfer.errors import InferenceMisconfiguredError, InferenceRejectedError, InvalidResponseError
from tests.support.http_server import Exchange, ScriptedServer

Make = Callable[..., Any]
ROW = [float(n) for n in range(16)]


def sent(server: ScriptedServer) -> tuple[str, str, Any]:
    exchange = server.requests[-1]
    return exchange.method, exchange.path, from_json(exchange.body)


async def test_json_returns_what_the_model_says(client: Make, model: ModelServer) -> None:
    made = client(type="json", url=f"{model.url}/predict")
    assert await made.infer({"instances": [ROW, ROW]}) == {"predictions": [expected(ROW)] * 2}
    with pytest.raises(InferenceRejectedError, match="row 1 has 2 features"):
        await made.infer({"instances": [ROW, [1.0, 2.0]]})


async def test_json_uses_method_and_whole_url(client: Make, http_server: ScriptedServer) -> None:
    await client(type="json", url=f"{http_server.url}/a/b?c=d", method="PUT").infer([1])
    assert sent(http_server) == ("PUT", "/a/b", [1])


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({}, "/v1/models/m:predict"),
        ({"version": 3}, "/v1/models/m/versions/3:predict"),
        ({"label": "stable"}, "/v1/models/m/labels/stable:predict"),
    ],
)
async def test_tfserving_predicts_rows(
    client: Make, http_server: ScriptedServer, settings: dict[str, Any], path: str
) -> None:
    http_server.body = {"predictions": [1, 2]}
    made = client(type="tfserving", url=f"{http_server.url}/", model="m", signature="s", **settings)
    assert await made.infer([[0], [1]]) == [1, 2]
    assert sent(http_server) == (
        "POST",
        path,
        {"instances": [[0], [1]], "signature_name": "s"},
    )
    with pytest.raises(InvalidResponseError, match="is not 3 predictions"):
        await made.infer({"instances": [[0], [1], [2]]})


async def test_tfserving_predicts_columns(client: Make, http_server: ScriptedServer) -> None:
    http_server.body = {"outputs": {"y": [1]}}
    made = client(type="tfserving", url=http_server.url, model="m")
    assert await made.infer({"inputs": {"x": [0]}}) == {"y": [1]}
    with pytest.raises(InvalidResponseError, match="has no 'predictions'"):
        await made.infer([[0]])


@pytest.mark.parametrize(
    ("version", "path"), [("", "/predictions/m%20x"), ("2.0", "/predictions/m%20x/2.0")]
)
async def test_torchserve_passes_both_bodies_through(
    client: Make, http_server: ScriptedServer, version: str, path: str
) -> None:
    http_server.body = [0.5]
    made = client(type="torchserve", url=http_server.url, model="m x", version=version)
    assert await made.infer({"data": [1]}) == [0.5]
    assert sent(http_server) == ("POST", path, {"data": [1]})


async def test_embeddings_come_in_the_order_of_their_inputs(
    client: Make, http_server: ScriptedServer
) -> None:
    http_server.body = {
        "model": "m-1",
        "usage": {"total_tokens": 2},
        "data": [{"index": 1, "embedding": [0.2]}, {"index": 0, "embedding": [0.1]}],
    }
    made = client(
        type="openai_embeddings",
        url=f"{http_server.url}/v1",
        model="m",
        api_key="key",
        options={"dimensions": 1},
    )
    for request in (["a", "b"], {"input": ["a", "b"]}):
        response = await made.infer(request)
        assert response.embeddings == [[0.1], [0.2]]
        assert (response.model, response.usage) == ("m-1", {"total_tokens": 2})
        assert sent(http_server) == (
            "POST",
            "/v1/embeddings",
            {"model": "m", "dimensions": 1, "encoding_format": "float", "input": ["a", "b"]},
        )
    assert http_server.requests[0].headers["authorization"] == "Bearer key"


@pytest.mark.parametrize(
    "body",
    [
        [],
        {},
        {"data": None},
        {"data": [{"index": 0, "embedding": [1]}]},
        {"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]},
        {"data": [{"index": 1, "embedding": [1]}, {"index": 2, "embedding": [1]}]},
        {"data": [{"index": 0}, {"index": 1}]},
        {"data": [{"embedding": [1]}, {"index": 0, "embedding": [1]}]},
        {"data": [{"embedding": [1]}, {"embedding": [1]}, {"embedding": [1]}]},
        {"data": [{"embedding": "no base64"}, {"embedding": "no base64"}]},
        {"data": [{"embedding": "AAA="}, {"embedding": "AAA="}]},
        {"data": [{"embedding": [1]}, {"embedding": [1, 2]}]},
        {"data": [{"embedding": []}, {"embedding": []}]},
        {"data": [{"embedding": [1]}, {"embedding": ["1"]}]},
        {"data": [{"embedding": [1]}, {"embedding": [None]}]},
    ],
)
async def test_embeddings_that_do_not_match_the_inputs_are_refused(
    client: Make, http_server: ScriptedServer, body: Any
) -> None:
    http_server.body = body
    with pytest.raises(InvalidResponseError, match="is not 2 embeddings"):
        await client(type="openai_embeddings", url=http_server.url, model="m").infer(["a", "b"])


@pytest.mark.parametrize(
    "data",
    [
        [{"embedding": [0.5]}, {"embedding": [-2]}],
        [{"embedding": [0.5]}, {"index": 1, "embedding": [-2]}],
        [{"index": 1, "embedding": [-2]}, {"embedding": [0.5]}],
        [{"index": 0, "embedding": "AAAAPw=="}, {"index": 1, "embedding": "AAAAwA=="}],
    ],
)
async def test_embeddings_are_read_as_all_servers_write_them(
    client: Make, http_server: ScriptedServer, data: Any
) -> None:
    http_server.body = {"data": data}
    made = client(type="openai_embeddings", url=http_server.url, model="m")
    assert (await made.infer(["a", "b"])).embeddings == [[0.5], [-2]]


async def test_a_server_that_refuses_encoding_format_is_asked_without(
    client: Make, http_server: ScriptedServer
) -> None:
    def answer(exchange: Exchange) -> None:
        if "encoding_format" in from_json(exchange.body):
            exchange.reply(400, b'{"error": "Unknown field: encoding_format"}')
        else:
            exchange.reply(200, b'{"data": [{"embedding": [1]}]}')

    http_server.answer = answer
    made = client(type="openai_embeddings", url=http_server.url, model="m")
    for _ in range(2):
        assert (await made.infer(["a"], idempotency_key="k")).embeddings == [[1]]
    bodies = [from_json(exchange.body) for exchange in http_server.requests]
    plain = {"model": "m", "input": ["a"]}
    assert bodies == [{**plain, "encoding_format": "float"}, plain, plain]
    keys = [exchange.headers["idempotency-key"] for exchange in http_server.requests]
    assert keys[0] != keys[1]


async def test_another_refusal_is_told_at_once(client: Make, http_server: ScriptedServer) -> None:
    http_server.answer = lambda exchange: exchange.reply(400, b"too long")
    made = client(type="openai_embeddings", url=http_server.url, model="m")
    with pytest.raises(InferenceRejectedError, match="too long"):
        await made.infer(["a"])
    assert len(http_server.requests) == 1


async def test_chat_returns_the_text_of_the_first_choice(
    client: Make, http_server: ScriptedServer
) -> None:
    message = {"role": "assistant", "content": "yes"}
    http_server.body = {"model": "m-1", "choices": [{"message": message, "finish_reason": "stop"}]}
    made = client(type="openai_chat", url=http_server.url, model="m", options={"temperature": 0})
    asked = [{"role": "user", "content": "is it?"}]
    for request in (asked, {"messages": asked}):
        response = await made.infer(request)
        assert (response.text, response.finish_reason, response.model) == ("yes", "stop", "m-1")
        assert response.message == message
        assert sent(http_server) == (
            "POST",
            "/chat/completions",
            {"model": "m", "temperature": 0, "messages": asked},
        )
    assert "authorization" not in http_server.requests[0].headers


async def test_chat_with_tool_calls_has_no_text(client: Make, http_server: ScriptedServer) -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    http_server.body = {"choices": [{"message": message}]}
    response = await client(type="openai_chat", url=http_server.url, model="m").infer([])
    assert response.text == ""
    assert response.message["tool_calls"] == [{"id": "1"}]


@pytest.mark.parametrize("body", [[], {}, {"choices": []}, {"choices": [{}]}, {"choices": [1]}])
async def test_chat_without_a_choice_is_refused(
    client: Make, http_server: ScriptedServer, body: Any
) -> None:
    http_server.body = body
    with pytest.raises(InvalidResponseError, match="has no choice"):
        await client(type="openai_chat", url=http_server.url, model="m").infer([])


async def test_chat_does_not_stream(client: Make, http_server: ScriptedServer) -> None:
    made = client(type="openai_chat", url=http_server.url, model="m", options={"stream": True})
    with pytest.raises(InferenceMisconfiguredError, match="does not stream"):
        await made.infer([])
    assert http_server.requests == []
