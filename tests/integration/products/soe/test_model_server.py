"""The reference server of soe, asked as the product asks it, in JSON and with binary tensors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from sinfer import Message, Window
from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.v2_app import V2App
from sinfer.encoding import to_json
from sinfer.errors import InferenceRejectedError
from sinfer.inference import V2Client
from sinfer.products.soe.model import METADATA, SoeModel
from sinfer.products.soe.pipeline import Answer, SoePipeline
from sinfer.products.soe.reactor import SENSORS, Reactor
from sinfer.products.soe.sensor_grid import Reading
from sinfer.products.soe.units import START
from tests.support.http_server import serving
from tests.support.soe_task import soe_task

FIRST = 1_700_000_000.0
MODEL = SoeModel()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(V2App(MODEL).asgi) as served:
        yield served.url


def readings(
    seconds: int = 60, leave_out: Callable[[str, int], bool] = lambda *_: False
) -> list[Any]:
    """Messages of a reactor, but for those that are left out."""
    reactor = Reactor(START)
    made = []
    for second in range(seconds):
        reactor.step()
        for sensor, value in reactor.measure().items():
            if not leave_out(sensor, second):
                data = to_json({"time": FIRST + second, "value": value})
                made.append(Message(data, f"soe.north.r1.{sensor}"))
    return made


def window_of(pipeline: SoePipeline, messages: list[Message]) -> Window[Reading]:
    items = [item for item in map(pipeline.preprocess, messages) if item is not None]
    return Window(items, messages, id="w", task="t", start=FIRST, end=FIRST + 60)


async def ask(
    url: str, messages: list[Message], binary: bool | str = "auto", **columns: Any
) -> Answer:
    """From messages to the answer, through pipeline, client and server."""
    pipeline = SoePipeline(soe_task(**columns))
    window = window_of(pipeline, messages)
    client = V2Client(
        V2Client.Config.model_validate({"url": url, "model": "soe", "binary": binary})
    )
    try:
        response = await client.infer(pipeline.build_request(window))
    finally:
        await client.aclose()
    (result,) = pipeline.build_results(window, response)
    assert isinstance(result.data, Answer)
    return result.data


@pytest.mark.parametrize("binary", [True, False, "auto"])
async def test_a_full_window_gets_setpoints_within_bounds(url: str, binary: bool | str) -> None:
    answer = await ask(url, readings(), binary)
    assert answer.status == "converged"
    assert set(answer.setpoints) == {"temperature", "flow"}
    assert 345 <= answer.setpoints["temperature"] <= 385
    assert 0.5 <= answer.setpoints["flow"] <= 2.2
    assert answer.objective is not None
    assert answer.stale == []


async def test_json_and_binary_give_the_same_answer(url: str) -> None:
    messages = readings()
    assert await ask(url, messages, True) == await ask(url, messages, False)


async def test_what_is_predicted_is_what_the_unit_then_earns(url: str) -> None:
    answer = await ask(url, readings())
    reactor = Reactor(START)
    for _ in range(60):
        reactor.step()
    reactor.setpoints.update(answer.setpoints)
    earned = []
    for _ in range(30):
        reactor.step()
        earned.append(reactor.measure()["profit"])
    assert answer.objective == pytest.approx(sum(earned) / len(earned), abs=1.5)


async def test_gaps_are_bridged(url: str) -> None:
    whole = await ask(url, readings())
    holes = await ask(url, readings(leave_out=lambda sensor, second: second % 4 != 3))
    assert holes.status == "converged"
    assert holes.setpoints == pytest.approx(whole.setpoints, rel=0.05)


@pytest.mark.parametrize("sensor", ["temperature", "flow", "activity"])
async def test_a_stale_sensor_that_is_needed_ends_in_no_setpoints(url: str, sensor: str) -> None:
    answer = await ask(url, readings(leave_out=lambda name, second: name == sensor and second > 50))
    assert answer.status == "not_converged"
    assert answer.reason == f"stale: {sensor}"
    assert answer.stale == [sensor]
    assert answer.setpoints == {}


async def test_without_the_objective_sensor_there_are_setpoints_nevertheless(url: str) -> None:
    answer = await ask(url, readings(leave_out=lambda name, _: name == "profit"))
    assert answer.status == "converged"
    assert answer.stale == ["profit"]


async def test_what_cannot_be_is_infeasible(url: str) -> None:
    bounds = {"temperature": [345, 385], "flow": [0.5, 2.2], "impurity": [0, 0.001]}
    answer = await ask(url, readings(), bounds=bounds)
    assert answer.status == "infeasible"
    assert "impurity" in answer.reason


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({"bounds": {"flow": [0.5, 2.2]}}, "bounds of 'temperature'"),
        (
            {"bounds": {"temperature": [345, 385], "flow": [0.5, 2.2], "activity": [0, 1]}},
            "'activity' can neither be set nor limited",
        ),
        ({"objective": {"sensor": "flow"}}, "objective is one of"),
        (
            {"sensors": [name for name in SENSORS if name != "impurity"],
             "bounds": {"temperature": [345, 385], "flow": [0.5, 2.2]}},
            "needs sensor 'impurity'",
        ),
    ],
)  # fmt: skip
async def test_a_task_that_the_model_cannot_serve_is_refused(
    url: str, columns: dict[str, Any], text: str
) -> None:
    messages = readings(leave_out=lambda name, _: name not in columns.get("sensors", SENSORS))
    with pytest.raises(InferenceRejectedError, match=text):
        await ask(url, messages, **columns)


async def test_the_server_tells_what_it_is(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        assert "binary_tensor_data" in (await client.get("/v2")).json()["extensions"]
        for path in ("/v2/models/soe", "/v2/models/soe/versions/1"):
            assert (await client.get(path)).json() == METADATA
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/soe/ready"):
            assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/", b"", 404),
        ("GET", "/v2/models/other", b"", 404),
        ("GET", "/v2/models/soe/versions/2", b"", 404),
        ("POST", "/v2", b"", 405),
        ("POST", "/v2/models/soe/infer", b"", 400),
        ("POST", "/v2/models/soe/infer", b"{", 400),
        ("POST", "/v2/models/soe/infer", b'{"inputs": []}', 400),
        (
            "POST",
            "/v2/models/soe/infer",
            b'{"inputs": [{"name": "values", "shape": [2], "datatype": "FP64", "data": [1]}]}',
            400,
        ),
    ],
)
async def test_wrong_requests_are_answered_with_the_reason(
    url: str, method: str, path: str, body: bytes, status: int
) -> None:
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.request(method, path, content=body)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("length", ["x", "99999"])
async def test_a_header_length_beyond_the_body_is_refused(url: str, length: str) -> None:
    headers = {"Inference-Header-Content-Length": length}
    async with httpx.AsyncClient(base_url=url) as client:
        answer = await client.post("/v2/models/soe/infer", content=b"{}", headers=headers)
    assert answer.status_code == 400


async def test_only_outputs_that_are_asked_for_come_back(url: str) -> None:
    pipeline = SoePipeline(soe_task())
    window = window_of(pipeline, readings())
    request = {**pipeline.build_request(window), "outputs": [{"name": "status"}], "id": "7"}
    async with httpx.AsyncClient(base_url=url) as client:
        answer = (await client.post("/v2/models/soe/infer", content=to_json(request))).json()
        assert [output["name"] for output in answer["outputs"]] == ["status"]
        assert answer["id"] == "7"
        request["outputs"] = [{"name": "nothing"}]
        refused = await client.post("/v2/models/soe/infer", content=to_json(request))
    assert refused.status_code == 400
    assert "'nothing'" in refused.json()["error"]


def test_it_runs_as_a_process_of_its_own() -> None:
    with ModelServer(module="sinfer.products.soe.model_server") as server:
        assert httpx.get(f"{server.url}/v2/models/soe", trust_env=False).json() == METADATA
