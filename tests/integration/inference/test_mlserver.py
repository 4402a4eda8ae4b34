"""A real MLServer, over HTTP and gRPC."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from sinfer.embedded.process import free_port
from sinfer.errors import InferenceMisconfiguredError, InferenceRejectedError, InferenceServerError

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
MODEL = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
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
"""


def program() -> Path:
    """The program, as ``make model-servers`` installs it.

    Skips where it is missing, and fails in CI.
    """
    found = ROOT / ".venv-mlserver" / "bin" / "mlserver"
    if not found.exists():
        text = "MLServer is not installed; make model-servers does that"
        pytest.fail(text) if os.environ.get("CI") else pytest.skip(text)
    return found


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the server listens, by transport."""
    binary, directory = program(), tmp_path_factory.mktemp("mlserver")
    (directory / "sums_model.py").write_text(MODEL)
    model = directory / "models" / "sums"
    model.mkdir(parents=True)
    tensors = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]}
    settings = {"name": "sums", "implementation": "sums_model.Sums", **tensors}
    (model / "model-settings.json").write_text(json.dumps(settings))
    http, grpc, metrics = free_port(), free_port(), free_port()
    (directory / "models" / "settings.json").write_text(
        json.dumps(
            {
                "host": "127.0.0.1",
                "http_port": http,
                "grpc_port": grpc,
                "metrics_port": metrics,
                "parallel_workers": 0,
            }
        )
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "start", "."],
            cwd=directory / "models",
            env={**os.environ, "PYTHONPATH": str(directory)},
            stdout=log,
            stderr=log,
        )
        try:
            deadline_s = time.monotonic() + 60
            while not is_ready(http):
                log_text = (directory / "log").read_text()
                assert process.poll() is None, log_text
                assert time.monotonic() < deadline_s, log_text
                time.sleep(0.2)
            yield {"http": f"http://127.0.0.1:{http}", "grpc": f"http://127.0.0.1:{grpc}"}
        finally:
            process.terminate()
            process.wait(20)


def is_ready(port: int) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/v2/models/sums/ready").is_success
    return False


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


@pytest.mark.parametrize("transport", ["http", "grpc"])
async def test_a_check_tells_a_model_that_is_there_from_one_that_is_not(
    client: Callable[..., Any], addresses: dict[str, str], transport: str
) -> None:
    settings = {"type": "v2", "transport": transport, "url": addresses[transport]}
    [found] = await client(**settings, model="sums").check()
    assert (found.verdict, "model 'sums' is ready" in found.text) == ("ok", True)
    [found] = await client(**settings, model="nothing").check()
    assert found.verdict == "error"
    assert re.search("has (it a|no) model 'nothing'", found.text)
