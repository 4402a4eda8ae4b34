"""A real MLServer, over HTTP and gRPC, and a plain application under uvicorn."""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest

from sinfer import InferenceClient, InferenceConfig, Result, Window
from sinfer.embedded.child_process import free_port
from sinfer.embedded.servers import RedisServer
from sinfer.errors import (
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InvalidResponseError,
)
from sinfer.store.connection import Store
from sinfer.worker.endpoint_guard import EndpointGuard
from tests.integration.worker.bench import Bench, Judging, Record
from tests.support.until import until_true

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
MODEL = """
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceResponse


class Sums(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        x = self.decode(payload.inputs[0], default_codec=NumpyCodec)
        if (x == 500).any():
            raise RuntimeError("this value breaks the model")
        if (x == 400).any():
            raise InferenceError("this value is refused")
        y = NumpyCodec.encode_output("y", x.sum(axis=1))
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=[y])


class Echo(MLModel):
    async def load(self):
        return True

    async def predict(self, payload):
        given = payload.inputs[0]
        if given.datatype == "BYTES":
            values = StringCodec.decode_input(given)
            y = StringCodec.encode_output("y", values)
        else:
            x = NumpyCodec.decode_input(given)
            asked = payload.parameters.model_extra or {} if payload.parameters else {}
            repeat = int(asked.get("repeat", 1))
            if asked.get("named"):  # MLServer itself answers with no infinity
                x = np.nan_to_num(x, nan=2000, posinf=1000, neginf=-1000)
            y = NumpyCodec.encode_output("y", np.tile(x, repeat))
        return InferenceResponse(model_name=self.name, outputs=[y])
"""


def program(name: str) -> Path:
    """A program, as ``make model-servers`` installs it.

    Skips where it is missing, and fails in CI.
    """
    found = ROOT / ".venv-mlserver" / "bin" / name
    if not found.exists():
        text = "MLServer is not installed; make model-servers does that"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    return found


PLAIN = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


async def sums(request):
    rows = await request.json()
    if any(500 in row for row in rows):
        raise RuntimeError("this value breaks the model")
    return JSONResponse([sum(row) for row in rows])


app = Starlette(routes=[Route("/sums", sums, methods=["POST"])])
"""


@contextmanager
def running(command: list[str | Path], directory: Path, url: str) -> Iterator[None]:
    """A server that answers at a URL, until the block is left."""
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(directory)},
            stdout=log,
            stderr=log,
        )
        try:

            def does_answer() -> bool:
                assert process.poll() is None, (directory / "log").read_text()
                return answers(url)

            until_true(does_answer, (directory / "log").read_text)
            yield
        finally:
            process.terminate()
            process.wait(20)


def answers(url: str) -> bool:
    """Whether something answers there, and not because it is not ready."""
    with suppress(httpx.TransportError):
        return httpx.get(url).status_code in (200, 405)
    return False


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where MLServer listens, by transport."""
    binary, directory = program("mlserver"), tmp_path_factory.mktemp("mlserver")
    (directory / "sums_model.py").write_text(MODEL)
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}
    settings = {"name": "sums", "implementation": "sums_model.Sums", **tensors}
    echo = {"name": "echo", "implementation": "sums_model.Echo"}
    for name, model in (("sums", settings), ("echo", echo)):
        (directory / name).mkdir()
        (directory / name / "model-settings.json").write_text(json.dumps(model))
    http, grpc, metrics = free_port(), free_port(), free_port()
    ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    server = {"host": "127.0.0.1", **ports, "parallel_workers": 0}
    (directory / "settings.json").write_text(json.dumps(server))
    url = f"http://127.0.0.1:{http}"
    with running([binary, "start", "."], directory, f"{url}/v2/models/sums/ready"):
        yield {"http": url, "grpc": f"http://127.0.0.1:{grpc}"}


@pytest.fixture(scope="module", params=["1", "60"], ids=["closes_soon", "keeps"])
def plain(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Where the plain application listens, which closes idle connections after a while."""
    binary, directory = program("uvicorn"), tmp_path_factory.mktemp("plain")
    (directory / "plain_app.py").write_text(PLAIN)
    port = str(free_port())
    url = f"http://127.0.0.1:{port}/sums"
    options = ["--port", port, "--timeout-keep-alive", request.param]
    with running([binary, "plain_app:app", *options], directory, url):
        yield url


def rows(*values: list[float]) -> dict[str, Any]:
    tensor = {"name": "x", "shape": [len(values), 2], "datatype": "FP32", "data": list(values)}
    return {"inputs": [tensor]}


@pytest.mark.parametrize("transport", ["http", "grpc"])
async def test_a_model_is_asked_and_its_refusals_are_told_apart(
    client: Callable[..., Any], addresses: dict[str, str], transport: str
) -> None:
    settings = {"type": "v2", "transport": transport, "url": addresses[transport]}
    made = client(**settings, model="sums")
    assert (await made.infer(rows([1, 2], [3, 4]))).outputs == {"y": [[3.0], [7.0]]}
    with pytest.raises(InferenceRejectedError, match="this value is refused"):
        await made.infer(rows([1, 2], [3, 400]))
    with pytest.raises(InferenceServerError):
        await made.infer(rows([1, 500]))
    with pytest.raises(InferenceMisconfiguredError, match="nothing"):
        await client(**settings, model="nothing").infer(rows([1, 2]))
    assert await made.is_ready()
    metadata = await made.metadata()
    assert [tensor["name"] for tensor in metadata["inputs"]] == ["x"]


async def test_what_is_no_number_is_read_from_json(
    client: Callable[..., Any], addresses: dict[str, str]
) -> None:
    made = client(type="v2", url=addresses["http"], model="sums")
    (value,) = (await made.infer(rows([1, math.nan]))).outputs["y"][0]
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("BOOL", [True, False, True]),
        ("INT8", [-128, 0, 127]),
        ("UINT8", [0, 255, 3]),
        ("INT64", [-(2**63), 2**53 + 1, 2**63 - 1]),
        ("UINT64", [0, 2**64 - 1, 1]),
        ("FP32", [1.5, -0.25, 3.0]),
        ("FP64", [0.1, 1e300, -1e-300]),
        ("BYTES", ["a", "é", ""]),
    ],
)
@pytest.mark.parametrize("transport", ["http", "grpc"])
async def test_values_of_every_datatype_go_there_and_back(
    client: Callable[..., Any],
    addresses: dict[str, str],
    transport: str,
    datatype: str,
    data: list[Any],
) -> None:
    made = client(type="v2", transport=transport, url=addresses[transport], model="echo")
    tensor = {"name": "x", "shape": [len(data)], "datatype": datatype, "data": data}
    response = await made.infer({"inputs": [tensor]})
    found = response.outputs["y"]
    flat = [x[0] if isinstance(x, list) else x for x in found]
    assert [x.decode() if isinstance(x, bytes) else x for x in flat] == data
    assert response.datatypes["y"] == datatype


@pytest.mark.parametrize("transport", ["http", "grpc"])
async def test_infinities_reach_the_model(
    client: Callable[..., Any], addresses: dict[str, str], transport: str
) -> None:
    made = client(type="v2", transport=transport, url=addresses[transport], model="echo")
    asked = {**rows([math.inf, -math.inf], [math.nan, 1.0]), "parameters": {"named": True}}
    response = await made.infer(asked)
    assert np.ravel(response.outputs["y"]).tolist() == [1000.0, -1000.0, 2000.0, 1.0]


async def test_large_answers_and_requests_over_grpc(
    client: Callable[..., Any], addresses: dict[str, str]
) -> None:
    settings = {"type": "v2", "transport": "grpc", "url": addresses["grpc"], "model": "echo"}
    large = {**rows(*[[1.0, 2.0]] * 1000), "parameters": {"repeat": 1000}}
    response = await client(**settings).infer(large)
    assert response.shapes["y"] == [1000, 2000]
    with pytest.raises(InferenceRejectedError, match="larger than max"):
        await client(**settings).infer(rows(*[[1.0, 2.0]] * 1_000_000))
    with pytest.raises(InvalidResponseError, match="max_response_bytes"):
        await client(**settings, max_response_bytes="1MiB").infer(large)


@pytest.mark.parametrize("transport", ["http", "grpc"])
async def test_a_check_tells_a_model_that_is_there_from_one_that_is_not(
    client: Callable[..., Any], addresses: dict[str, str], transport: str
) -> None:
    settings = {"type": "v2", "transport": transport, "url": addresses[transport]}
    [found] = await client(**settings, model="sums").check()
    assert (found.verdict, "model 'sums' is ready" in found.text) == ("ok", True)
    [found] = await client(**settings, model="nothing").check()
    assert found.verdict == "error"
    assert "it has no model 'nothing'" in found.text


# --- whole windows ---


class Sums(Judging):
    """Asks for sums, in the way of the Open Inference Protocol."""

    def build_request(self, window: Window[int]) -> Any:
        return rows(*[[float(n), 1.0] for n in window])

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(y) for (y,) in response.outputs["y"]]


class PlainSums(Judging):
    def build_request(self, window: Window[int]) -> Any:
        return [[n, 1] for n in window]

    def build_results(self, window: Window[int], response: Any) -> list[Result]:
        return [Result(float(y)) for y in response]


@pytest.fixture
async def bench(redis_server: RedisServer, unique: str) -> AsyncIterator[Bench]:
    store = Store(redis_server.url)
    bench = Bench(store, unique)
    yield bench
    await bench.aclose()
    await store.aclose()


async def one_bad_of_fifty(
    bench: Bench, model: InferenceClient, pipeline: type[Judging], bad: int
) -> str:
    """Why the bad one is a dead letter; all others have their results, at the first attempt, and
    nobody who shares the model had to wait."""
    bench.model = cast("Any", model)
    numbers = [bad if n == 17 else n for n in range(50)]
    await bench.feed(numbers, range(100, 150), numbers, range(200, 250), numbers)
    sink = Record()
    processor = bench.processor(pipeline, inference={"breaker_failures": 1}, sink=sink)
    for _ in range(5):  # idle connections are closed meanwhile, or not
        await bench.try_once(processor)
        await asyncio.sleep(0.4)
    assert await bench.claims.waiting() == 0
    good = [n for n in range(50) if n != 17] * 3 + [*range(100, 150), *range(200, 250)]
    assert sorted(float(data) for _, data in sink.written.elements()) == sorted(
        n + 1.0 for n in good
    )
    assert {window.attempt for window in sink.windows} == {1}
    other = EndpointGuard(bench.store, model.called, InferenceConfig(type="v2"))
    assert await other.wait_ms() == 0
    letters = await bench.dead()
    assert [int(letter.message.data) for letter in letters] == [bad] * 3
    [told] = {letter.error for letter in letters}
    return told


@pytest.mark.parametrize("transport", ["http", "grpc"])
@pytest.mark.parametrize(("bad", "told"), [(500, "breaks the model"), (400, "value is refused")])
async def test_one_bad_item_of_fifty_is_given_up_alone_in_the_words_of_the_model(
    bench: Bench,
    client: Callable[..., Any],
    addresses: dict[str, str],
    transport: str,
    bad: int,
    told: str,
) -> None:
    model = client(type="v2", transport=transport, url=addresses[transport], model="sums")
    assert told in await one_bad_of_fifty(bench, model, Sums, bad)


async def test_one_bad_item_of_fifty_is_given_up_alone_by_a_plain_application(
    bench: Bench, client: Callable[..., Any], plain: str
) -> None:
    told = await one_bad_of_fifty(bench, client(type="json", url=plain), PlainSums, 500)
    assert told == f"POST {plain}: 500 Internal Server Error: Internal Server Error"
