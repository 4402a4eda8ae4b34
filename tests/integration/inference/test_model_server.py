"""The reference model server as a process: its paths, faults, counters, and how it ends."""

from __future__ import annotations

import signal
import threading
from typing import Any

import httpx
import pytest

from sinfer.embedded.child_process import is_listening
from sinfer.embedded.model_process import ModelServer
from tests.support.until import until_true

ROW = [1.0] * 16
INFER = "/v2/models/example/infer"


def body(count: int = 2) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [count, 16], "datatype": "FP32", "data": ROW * count}
    return {"inputs": [tensor], "id": "7"}


@pytest.fixture
def http(model: ModelServer) -> Any:
    with httpx.Client(base_url=model.url, trust_env=False) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/example", 200),
        ("GET", "/v2/models/example/versions/1", 200),
        ("GET", "/v2/models/example/ready", 200),
        ("GET", "/v2/models/example/versions/2", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", INFER, 405),
        ("POST", "/v2/models/example/versions/2/infer", 404),
        ("GET", "/", 404),
        ("POST", "/predict", 400),
        ("POST", "/faults", 400),
    ],
)
def test_paths_answer_with_their_status(
    http: httpx.Client, method: str, path: str, status: int
) -> None:
    response = http.request(method, path)
    assert response.status_code == status
    assert status == 200 or "error" in response.json()


def test_the_answer_has_the_id_of_the_request(http: httpx.Client) -> None:
    assert http.post(INFER, json=body()).json() == {
        "model_name": "example",
        "model_version": "1",
        "id": "7",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1.0, 1.0]}],
    }


def test_faults_hit_inference_alone_and_end(http: httpx.Client, model: ModelServer) -> None:
    model.order({"status": 503, "count": 2, "retry_after": 1}, {"mode": "wrong_count"})
    assert http.get("/v2/health/ready").status_code == 200
    answers = [http.post(INFER, json=body()) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [503, 503, 200, 200]
    assert answers[0].headers["retry-after"] == "1"
    counts = [len(answer.json()["outputs"][0]["data"]) for answer in answers[2:]]
    assert counts == [1, 2]
    stats = model.stats()
    assert (stats["requests"], stats["faulted"], stats["answered"]) == (4, 3, 1)


def test_a_fault_can_hit_the_requests_with_one_value(
    http: httpx.Client, model: ModelServer
) -> None:
    model.order({"status": 500, "value": 666, "count": None})
    bad = {"instances": [ROW, [666.0, *ROW[1:]]]}
    answers = [http.post("/predict", json=x).status_code for x in ({"instances": [ROW]}, bad, bad)]
    assert answers == [200, 500, 500]


@pytest.mark.parametrize("fault", [{"status": 700}, {"mode": "odd"}, {"odd": 1}, {"delay_ms": -1}])
def test_a_misspelt_fault_is_refused(http: httpx.Client, fault: dict[str, Any]) -> None:
    response = http.post("/faults", json=[fault])
    assert response.status_code == 400
    assert "not a list of faults" in response.json()["error"]


def test_it_ends_at_once_and_cleanly_with_a_call_under_way() -> None:
    with ModelServer() as server:
        server.order({"mode": "hang"})
        ended = threading.Event()

        def call() -> None:
            with pytest.raises(httpx.RemoteProtocolError):
                httpx.post(server.url + INFER, json=body(), timeout=None, trust_env=False)
            ended.set()

        thread = threading.Thread(target=call)
        thread.start()
        until_true(lambda: server.stats()["concurrent"] > 0)
        server.process.signal(signal.SIGTERM)
        assert server.process.wait(10) == 0
        thread.join(10)
        assert ended.is_set()
        assert not is_listening(server.port)
        assert "Traceback" not in server.process.tail()


def test_it_forgets_faults_over_a_kill() -> None:
    with ModelServer(delay_ms=1) as server:
        server.order({"status": 503, "count": None})
        server.restart()
        answer = httpx.post(server.url + INFER, json=body(), trust_env=False)
        assert answer.status_code == 200
