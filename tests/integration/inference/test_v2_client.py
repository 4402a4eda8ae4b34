"""The v2 client against the reference model server: answers, faults, connections."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sinfer.embedded.child_process import free_port
from sinfer.embedded.example_model import expected
from sinfer.embedded.model_process import ModelServer
from sinfer.encoding import to_json
from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.inference import V2Client
from sinfer.inference.v2.messages import HEADER_LENGTH
from tests.support.http_server import Exchange, ScriptedServer

Make = Callable[..., V2Client]


def rows(count: int) -> list[list[float]]:
    draw = random.Random(count)
    return [[draw.uniform(-5, 5) for _ in range(16)] for _ in range(count)]


def request(x: list[list[float]], data: Any = None) -> dict[str, Any]:
    flat = [value for row in x for value in row] if data is None else data
    tensor = {"name": "x", "shape": [len(x), 16], "datatype": "FP32", "data": flat}
    return {"inputs": [tensor]}


def settings(server: ModelServer, /, **changes: Any) -> dict[str, Any]:
    return {"type": "v2", "url": server.url, "model": "example", **changes}


@pytest.mark.parametrize("version", ["", "1"])
async def test_each_row_has_its_own_answer(client: Make, model: ModelServer, version: str) -> None:
    x = rows(100)
    made = client(**settings(model, version=version, binary=False))
    response = await made.infer(request(x))
    assert response.outputs["y"] == [expected(row) for row in x]
    assert response.shapes["y"] == [100]
    assert response.datatypes["y"] == "FP32"
    assert response.model_version == "1"


@pytest.mark.parametrize("count", [0, 1, 100])
@pytest.mark.parametrize("form", ["list", "array", "bytes"])
async def test_binary_tensors_give_the_same_answer(
    client: Make, model: ModelServer, form: str, count: int
) -> None:
    x = rows(count)
    array = np.array(x, dtype="<f4").reshape(count, 16)
    data = {"list": None, "array": array, "bytes": array.tobytes()}[form]
    response = await client(**settings(model, binary=True)).infer(request(x, data))
    assert response.outputs["y"] == pytest.approx([expected(row) for row in x], abs=1e-5)
    assert "data" not in response.raw["outputs"][0]


async def test_auto_is_binary_where_the_server_has_it(client: Make, model: ModelServer) -> None:
    x = rows(3)
    response = await client(**settings(model, binary="auto")).infer(request(x))
    assert response.outputs["y"] == pytest.approx([expected(row) for row in x], abs=1e-5)
    assert "data" not in response.raw["outputs"][0]


async def test_auto_is_json_where_the_server_has_no_binary(
    client: Make, http_server: ScriptedServer
) -> None:
    output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [0.5]}
    http_server.body = {"extensions": ["sequence"], "outputs": [output]}
    auto = client(type="v2", url=http_server.url, model="m", binary="auto")
    for _ in range(2):
        assert (await auto.infer(request(rows(1)))).outputs["y"] == [0.5]
    paths = [asked.path for asked in http_server.requests]
    assert paths == ["/v2", "/v2/models/m/ready", *["/v2/models/m/infer"] * 2]
    assert b'"data":[' in http_server.requests[2].body


async def test_a_server_that_does_not_know_the_question_gets_json(
    client: Make, http_server: ScriptedServer
) -> None:
    def answer(exchange: Exchange) -> None:
        status = exchanges.pop(0) if exchange.path == "/v2" else 200
        output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [0.5]}
        exchange.reply(status, to_json({"outputs": [output]}))

    http_server.answer = answer
    for status in (200, 400, 401, 404, 405, 500, 501, 503):
        exchanges = [status]
        made = client(type="v2", url=http_server.url, model="m")
        for _ in range(2):
            assert (await made.infer(request(rows(1)))).outputs["y"] == [0.5]


class Replaced:
    """A server that has binary tensors, or is another one that has not.

    Attributes:
        has_binary: whether it has.
        refusal: what one answers that has not.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.has_binary = True
        self.refusal = 422
        self._server = server
        server.answer = self._answer

    def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/v2":
            extensions = ["binary_tensor_data"] if self.has_binary else []
            exchange.reply(200, to_json({"name": "s", "extensions": extensions}))
        elif exchange.path.endswith("/ready"):
            exchange.reply(200, b"")
        elif exchange.headers.get(HEADER_LENGTH.lower()) and not self.has_binary:
            exchange.reply(self.refusal, b"what is that?")
        else:
            output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [0.5]}
            exchange.reply(200, to_json({"outputs": [output]}))

    @property
    def kinds(self) -> list[str]:
        """How it was asked."""
        asked = (x for x in self._server.requests if x.path.endswith("/infer"))
        return ["binary" if HEADER_LENGTH.lower() in x.headers else "json" for x in asked]


@pytest.mark.parametrize("refusal", [400, 415, 422, 500])
async def test_a_server_that_came_back_without_binary_tensors_gets_json(
    client: Make, http_server: ScriptedServer, refusal: int
) -> None:
    server = Replaced(http_server)
    server.refusal = refusal
    made = client(type="v2", url=http_server.url, model="m")
    await made.infer(request(rows(1)), idempotency_key="a")
    made._extension._asked_s -= 60  # a while later
    server.has_binary = False
    for _ in range(2):
        response = await made.infer(request(rows(1)), idempotency_key="a")
        assert response.outputs["y"] == [0.5]
    assert server.kinds == ["binary", "binary", "json", "json"]
    keys = [x.headers["idempotency-key"] for x in http_server.requests if x.path.endswith("infer")]
    assert keys == ["a", "a", "a/json", "a"]


async def test_a_server_that_was_away_is_asked_again_what_it_can(
    client: Make, http_server: ScriptedServer
) -> None:
    server = Replaced(http_server)
    server.has_binary = False
    made = client(type="v2", url=http_server.url, model="m")
    await made.infer(request(rows(1)))
    answer, http_server.answer = http_server.answer, lambda exchange: exchange.reply(503, b"")
    with pytest.raises(InferenceUnavailableError):
        await made.infer(request(rows(1)))
    http_server.answer, server.has_binary = answer, True
    await made.infer(request(rows(1)))
    assert server.kinds == ["json", "json", "binary"]


async def test_a_refusal_of_a_server_that_has_binary_tensors_stands(
    client: Make, http_server: ScriptedServer
) -> None:
    server = Replaced(http_server)
    made = client(type="v2", url=http_server.url, model="m")
    await made.infer(request(rows(1)))

    def refuse(exchange: Exchange) -> None:
        if exchange.path.endswith("/infer"):
            exchange.reply(400, b"row 3 is bad")
        else:
            server._answer(exchange)

    http_server.answer = refuse
    for _ in range(10):
        with pytest.raises(InferenceRejectedError, match="row 3 is bad"):
            await made.infer(request(rows(1)))
    assert set(server.kinds) == {"binary"}
    assert [x.path for x in http_server.requests].count("/v2") <= 3


@pytest.mark.parametrize("binary", [True, False, "auto"])
@pytest.mark.parametrize("has_binary", [True, False])
async def test_a_check_finds_binary_tensors_that_the_server_does_not_list(
    client: Make, http_server: ScriptedServer, binary: Any, has_binary: bool
) -> None:
    Replaced(http_server).has_binary = has_binary
    found = await client(type="v2", url=http_server.url, model="m", binary=binary).check()
    told = [(part.verdict, part.text) for part in found if "binary" in part.text]
    if binary is True and not has_binary:
        assert told == [
            (
                "error",
                f"inference.binary: true, and {http_server.url} does not list binary_tensor_data"
                " among its extensions; leave it at auto, or set it to false",
            )
        ]
    else:
        assert told == []


async def test_json_takes_arrays_too(client: Make, model: ModelServer) -> None:
    x = rows(3)
    response = await client(**settings(model, binary=False)).infer(request(x, np.array(x)))
    assert response.outputs["y"] == [expected(row) for row in x]


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"status": 400}, InferenceRejectedError),
        ({"status": 404}, InferenceMisconfiguredError),
        ({"status": 500}, InferenceServerError),
        ({"status": 503}, InferenceUnavailableError),
        ({"mode": "close_midway"}, InferenceUnavailableError),
        ({"mode": "garbage"}, InvalidResponseError),
        ({"status": 204}, InvalidResponseError),
        ({"status": 302}, InferenceMisconfiguredError),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
async def test_a_fault_is_told_and_the_next_call_succeeds(
    client: Make,
    model: ModelServer,
    fault: dict[str, Any],
    kind: type[InferenceError],
    binary: bool,
) -> None:
    made = client(**settings(model, binary=binary))
    model.order(fault)
    with pytest.raises(InferenceError) as caught:
        await made.infer(request(rows(4)))
    assert type(caught.value) is kind
    assert str(caught.value).startswith(f"POST {model.url}/v2/models/example/infer: ")
    assert len((await made.infer(request(rows(4)))).outputs["y"]) == 4


async def test_the_wait_that_the_server_asks_for_is_passed_on(
    client: Make, model: ModelServer
) -> None:
    model.order({"status": 429, "retry_after": 3})
    with pytest.raises(InferenceUnavailableError) as caught:
        await client(**settings(model)).infer(request(rows(1)))
    assert (caught.value.status, caught.value.retry_after) == (429, 3.0)


@pytest.mark.parametrize("binary", [False, True, "auto"])
@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (None, "input 'x': value 50 is null where FP32 is due"),
        (float("nan"), "400 Bad Request"),
        ("x", "400 Bad Request|input 'x': value 50 is no FP32: 'x'"),
    ],
)
async def test_one_bad_value_rejects_the_request(
    client: Make, model: ModelServer, bad: Any, told: str, binary: Any
) -> None:
    x = rows(5)
    x[3][2] = bad
    with pytest.raises(InferenceRejectedError, match=told):
        await client(**settings(model, binary=binary)).infer(request(x))


async def test_a_bad_value_in_a_binary_tensor_rejects_the_request(
    client: Make, model: ModelServer
) -> None:
    x = rows(5)
    x[3][2] = float("inf")
    made = client(**settings(model, binary=True))
    with pytest.raises(InferenceRejectedError, match="row 3 holds a value"):
        await made.infer(request(x))
    with pytest.raises(InferenceRejectedError, match="is null where FP32 is due"):
        await made.infer(request(rows(1), [None] * 16))


@pytest.mark.parametrize("wrong", [{"model": "other"}, {"version": "9"}, {"model": "a/b"}])
async def test_an_unknown_model_is_misconfigured(
    client: Make, model: ModelServer, wrong: dict[str, str]
) -> None:
    with pytest.raises(InferenceMisconfiguredError, match="404 Not Found"):
        await client(**settings(model, **wrong)).infer(request(rows(1)))


async def test_a_server_that_is_not_there_is_unavailable(client: Make) -> None:
    made = client(type="v2", url=f"http://127.0.0.1:{free_port()}", model="m")
    with pytest.raises(InferenceUnavailableError, match="ConnectError"):
        await made.infer(request(rows(1)))
    assert not await made.is_ready()


async def test_hanging_calls_end_at_their_deadline_and_leave_the_pool_usable(
    client: Make, model: ModelServer
) -> None:
    made = client(**settings(model, timeout="1s", max_concurrency=2))
    model.order({"mode": "hang", "count": None})
    calls = [made.infer(request(rows(1))) for _ in range(6)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [InferenceUnavailableError] * 6
    assert "no answer within 1s" in str(outcomes[0])
    model.order()
    assert len((await made.infer(request(rows(1)))).outputs["y"]) == 1


async def test_no_more_calls_are_under_way_than_allowed(client: Make, model: ModelServer) -> None:
    made = client(**settings(model, max_concurrency=3))
    model.order({"delay_ms": 20, "count": None})
    await asyncio.gather(*(made.infer(request(rows(1))) for _ in range(12)))
    assert model.stats()["max_concurrent"] == 3


async def test_a_server_that_was_restarted_is_found_again(client: Make) -> None:
    with ModelServer() as server:
        made = client(**settings(server))
        assert await made.is_ready()
        server.restart()
        try:
            await made.infer(request(rows(1)))
        except InferenceUnavailableError:
            await made.infer(request(rows(1)))


async def test_the_idempotency_key_is_sent_whatever_it_holds(
    client: Make, model: ModelServer
) -> None:
    made = client(**settings(model))
    keys = ["t/p/k/1", "t/p/ключ 1\n", "t/p/k%2F/1", "t/p/k/1"]
    for key in keys:
        await made.infer(request(rows(1)), idempotency_key=key)
    assert model.stats()["repeated"] == 1


async def test_metadata_tell_names_types_and_shapes(client: Make, model: ModelServer) -> None:
    made = client(**settings(model))
    metadata = await made.metadata()
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}]
    assert await made.is_ready()
    assert not await client(**settings(model, model="other")).is_ready()


class Loading:
    """Answers as servers do that know a model and have not loaded it.

    Attributes:
        refusal: status and body of calls.
        ready: status and body of what says whether the model is ready.
    """

    def __init__(self, server: ScriptedServer) -> None:
        self.refusal: tuple[int, bytes] | None = (400, b'{"error": "model m is not ready"}')
        self.ready = (503, b"")
        self._server = server
        server.answer = self._answer

    def _answer(self, exchange: Exchange) -> None:
        if exchange.path.endswith("/ready"):
            exchange.reply(*self.ready)
        elif self.refusal is not None:
            exchange.reply(*self.refusal)
        else:
            output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [0.5]}
            exchange.reply(200, to_json({"outputs": [output]}))

    @property
    def asked(self) -> list[str]:
        return [exchange.path for exchange in self._server.requests]


@pytest.mark.parametrize(
    ("ready", "calls"),
    [
        ((503, b""), 0),
        ((200, b'{"name": "m", "ready": false}'), 0),
        ((400, b"{}"), 1),  # not beyond doubt, so that a call is tried
        ((500, b"{}"), 1),
    ],
)
@pytest.mark.parametrize("status", [400, 404, 500])
async def test_a_model_that_is_not_ready_has_an_outage_and_refuses_nothing(
    client: Make, http_server: ScriptedServer, ready: tuple[int, bytes], calls: int, status: int
) -> None:
    loading = Loading(http_server)
    loading.refusal, loading.ready = (status, b"no"), ready
    v2 = client(type="v2", url=http_server.url, model="m", version="3")
    with pytest.raises(InferenceUnavailableError, match="the model is not ready") as caught:
        await v2.infer(request(rows(1)))
    assert caught.value.not_begun
    assert len([target for target in loading.asked if target.endswith("/infer")]) == calls
    assert "/v2/models/m/versions/3/ready" in loading.asked
    loading.refusal, loading.ready = None, (200, b"")
    assert (await v2.infer(request(rows(1)))).outputs["y"] == [0.5]


@pytest.mark.parametrize("ready", [(200, b""), (200, b'{"ready": true}'), (404, b""), (501, b"")])
async def test_a_refusal_of_a_model_that_is_ready_stands(
    client: Make, http_server: ScriptedServer, ready: tuple[int, bytes]
) -> None:
    loading = Loading(http_server)
    loading.ready = ready
    v2 = client(type="v2", url=http_server.url, model="m")
    for _ in range(5):
        with pytest.raises(InferenceRejectedError):
            await v2.infer(request(rows(1)))
    assert len([target for target in loading.asked if target.endswith("/ready")]) <= 2


async def test_a_model_that_is_unloaded_later_has_an_outage(
    client: Make, http_server: ScriptedServer
) -> None:
    loading = Loading(http_server)
    loading.refusal, loading.ready = None, (200, b"")
    v2 = client(type="v2", url=http_server.url, model="m")
    await v2.infer(request(rows(1)))
    v2._readiness._ready_until_s = 0.0  # a while later
    loading.refusal, loading.ready = (400, b"unloaded"), (503, b"")
    with pytest.raises(InferenceUnavailableError, match="not ready"):
        await v2.infer(request(rows(1)))
