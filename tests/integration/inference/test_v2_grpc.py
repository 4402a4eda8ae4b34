"""The Open Inference Protocol over gRPC, on a server in the test's own event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from sinfer.errors import (
    ConfigError,
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.inference.v2.grpc_messages import (
    SERVICE,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
)
from sinfer.inference.v2.tensors import pack_tensor, unpack_tensor

Make = Callable[..., Any]


class Server:
    """Answers each call as told, and keeps what it was asked.

    Attributes:
        port: where it listens.
        asked: requests and the metadata that came with them.
        answer: answers ``ModelInfer``.
        ready: answers ``ModelReady``.
    """

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[tuple[Any, dict[str, str]]] = []
        self.answer: Callable[[Any], Any] = doubled
        self.ready = True

    async def _infer(self, request: Any, context: Any) -> Any:
        self.asked.append((request, dict(context.invocation_metadata())))
        answer = self.answer(request)
        if isinstance(answer, tuple):
            await context.abort(*answer)
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return answer

    async def _ready(self, request: Any, context: Any) -> Any:
        return ModelReadyResponse(ready=self.ready)

    async def _about(self, request: Any, context: Any) -> Any:
        tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        return ModelMetadataResponse(name=request.name, platform="p", inputs=[tensor])

    @asynccontextmanager
    async def listening(self, secured: grpc.ServerCredentials | None = None) -> AsyncIterator[str]:
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                method, request.FromString, response.SerializeToString
            )
            for name, method, request, response in (
                ("ModelInfer", self._infer, ModelInferRequest, ModelInferResponse),
                ("ModelReady", self._ready, ModelReadyRequest, ModelReadyResponse),
                ("ModelMetadata", self._about, ModelMetadataRequest, ModelMetadataResponse),
            )
        }
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 1 << 20)])
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        if secured is None:
            self.port = server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = server.add_secure_port("127.0.0.1:0", secured)
        await server.start()
        try:
            yield f"{'http' if secured is None else 'https'}://localhost:{self.port}"
        finally:
            await server.stop(None)


def doubled(request: Any) -> Any:
    """The first input times two, as bytes."""
    [tensor, *_] = request.inputs
    values = unpack_tensor(request.raw_input_contents[0], tensor.datatype)
    return answered([2 * value for value in values], tensor.datatype, list(tensor.shape))


def answered(values: list[Any], datatype: str, shape: list[int]) -> Any:
    return ModelInferResponse(
        model_name="m",
        model_version="3",
        outputs=[{"name": "y", "datatype": datatype, "shape": shape}],
        raw_output_contents=[pack_tensor(values, datatype, shape)],
    )


@pytest.fixture
def server() -> Iterator[Server]:
    return Server()  # type: ignore[return-value]


def request(*values: Any, datatype: str = "FP32") -> dict[str, Any]:
    shape = [len(values)]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": datatype, "data": list(values)}]}


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {"type": "v2", "transport": "grpc", "url": url, "model": "m", **more}


@pytest.mark.parametrize(
    "datatype", ["FP16", "BF16", "FP32", "FP64", "INT8", "INT64", "UINT16", "UINT64"]
)
async def test_tensors_travel_as_bytes_both_ways(
    client: Make, server: Server, datatype: str
) -> None:
    async with server.listening() as url:
        made = client(**settings(url, version="3", headers={"X-Key": "k"}))
        response = await made.infer(
            {**request(1, 2, datatype=datatype), "id": "i", "parameters": {"a": 1, "b": "c"}},
            idempotency_key="w/0+2",
        )
    assert response.outputs == {"y": [2, 4]}
    assert (response.shapes, response.datatypes) == ({"y": [2]}, {"y": datatype})
    assert (response.model_name, response.model_version) == ("m", "3")
    [(sent, metadata)] = server.asked
    assert (sent.model_name, sent.model_version, sent.id) == ("m", "3", "i")
    assert (sent.parameters["a"].int64_param, sent.parameters["b"].string_param) == (1, "c")
    assert (metadata["x-key"], metadata["idempotency-key"]) == ("k", "w/0+2")


async def test_what_is_no_number_arrives(client: Make, server: Server) -> None:
    async with server.listening() as url:
        response = await client(**settings(url)).infer(request(math.nan, math.inf))
    nan, infinite = response.outputs["y"]
    assert math.isnan(nan)
    assert infinite == math.inf


async def test_answers_value_by_value_are_read_too(client: Make, server: Server) -> None:
    server.answer = lambda _: ModelInferResponse(
        outputs=[
            {
                "name": "y",
                "datatype": "FP32",
                "shape": [2, 1],
                "contents": {"fp32_contents": [1, 2]},
            },
            {
                "name": "label",
                "datatype": "BYTES",
                "shape": [1],
                "contents": {"bytes_contents": [b"a"]},
            },
        ]
    )
    async with server.listening() as url:
        response = await client(**settings(url)).infer(request(1.0))
    assert response.outputs == {"y": [[1.0], [2.0]], "label": [b"a"]}


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((grpc.StatusCode.INVALID_ARGUMENT, "bad value"), InferenceRejectedError, "bad value"),
        ((grpc.StatusCode.INTERNAL, "boom"), InferenceServerError, "INTERNAL: boom"),
        ((grpc.StatusCode.UNKNOWN, "boom"), InferenceServerError, "UNKNOWN: boom"),
        ((grpc.StatusCode.NOT_FOUND, "no m"), InferenceMisconfiguredError, "no m"),
        ((grpc.StatusCode.UNAUTHENTICATED, "s3cret"), InferenceMisconfiguredError, r"\*\*\*"),
        ((grpc.StatusCode.UNAVAILABLE, "later"), InferenceUnavailableError, "later"),
        ((grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"), InferenceUnavailableError, "quota"),
        (5.0, InferenceUnavailableError, "no answer within 300ms"),
        (answered([0.0] * 2, "FP32", [2]), None, ""),
        (
            ModelInferResponse(outputs=[{"name": "y", "datatype": "FP32", "shape": [3]}]),
            InvalidResponseError,
            r"output 'y': shape \[3\]",
        ),
        (
            ModelInferResponse(outputs=[{"name": "y", "datatype": "FP16", "shape": [0]}]),
            InvalidResponseError,
            "needs raw_output_contents",
        ),
        (
            ModelInferResponse(raw_output_contents=[b""]),
            InvalidResponseError,
            "1 raw tensors for 0 outputs",
        ),
    ],
)
async def test_every_status_is_an_error_of_its_kind(
    client: Make, server: Server, answer: Any, kind: type[InferenceError] | None, told: str
) -> None:
    server.answer = lambda _: answer
    async with server.listening() as url:
        made = client(**settings(url, timeout="300ms", headers={"X-Key": "s3cret"}))
        if kind is None:
            await made.infer(request(1.0))
            return
        with pytest.raises(kind, match=told) as caught:
            await made.infer(request(1.0))
    assert type(caught.value) is kind
    assert "s3cret" not in str(caught.value)
    if isinstance(caught.value, InferenceUnavailableError):
        assert caught.value.not_begun is (told == "quota")


async def test_where_nobody_listens_nothing_was_begun(client: Make, server: Server) -> None:
    async with server.listening() as url:
        pass
    with pytest.raises(InferenceUnavailableError, match="UNAVAILABLE") as caught:
        await client(**settings(url)).infer(request(1.0))
    assert caught.value.not_begun


async def test_a_request_that_is_too_large_is_refused_and_can_be_halved(
    client: Make, server: Server
) -> None:
    async with server.listening() as url:
        made = client(**settings(url))
        with pytest.raises(InferenceRejectedError, match="larger than max"):
            await made.infer(request(*[1.0] * 300_000))
        assert len((await made.infer(request(*[1.0] * 200_000))).outputs["y"]) == 200_000


async def test_large_answers_are_read_up_to_the_setting(client: Make, server: Server) -> None:
    count = 600_000
    server.answer = lambda _: answered([0.5] * count, "FP64", [count])
    async with server.listening() as url:
        assert (await client(**settings(url)).infer(request(1.0))).outputs["y"] == [0.5] * count
        small = client(**settings(url, max_response_bytes="1MiB"))
        with pytest.raises(InvalidResponseError, match=r"larger than max.*max_response_bytes"):
            await small.infer(request(1.0))


@pytest.mark.parametrize(
    ("data", "datatype"),
    [([True, False, True], "BOOL"), ([b"a", b"\xff\x00", b""], "BYTES"), (["a", "é"], "BYTES")],
)
async def test_booleans_and_bytes_travel_both_ways(
    client: Make, server: Server, data: list[Any], datatype: str
) -> None:
    server.answer = lambda asked: ModelInferResponse(
        outputs=[{"name": "y", "datatype": datatype, "shape": [len(data)]}],
        raw_output_contents=list(asked.raw_input_contents),
    )
    async with server.listening() as url:
        response = await client(**settings(url)).infer(request(*data, datatype=datatype))
    due = [x.encode() if isinstance(x, str) else x for x in data]
    assert response.outputs == {"y": due}


@pytest.mark.parametrize(
    ("wrong", "kind", "told"),
    [
        ([1], InferenceMisconfiguredError, "a list of 'inputs'"),
        (
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32"}]},
            InferenceMisconfiguredError,
            "has no data",
        ),
        (request("a"), InferenceRejectedError, "'x': value 0 is no FP32: 'a'"),
        ({**request(1.0), "parameters": {"p": []}}, InferenceMisconfiguredError, "'p'.* is list"),
    ],
)
async def test_a_request_of_another_form_is_told(
    client: Make, server: Server, wrong: Any, kind: type[Exception], told: str
) -> None:
    async with server.listening() as url:
        with pytest.raises(kind, match=told):
            await client(**settings(url)).infer(wrong)
    assert server.asked == []


async def test_readiness_and_metadata_are_asked_for(client: Make, server: Server) -> None:
    async with server.listening() as url:
        made = client(**settings(url))
        assert await made.is_ready()
        server.ready = False
        assert not await made.is_ready()
        assert (await made.metadata())["inputs"] == [
            {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        ]
    assert not await made.is_ready()


async def test_https_is_tls_with_the_authority_that_is_named(
    client: Make, server: Server, tmp_path: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    pair = (issued.private_key_pem.bytes(), b"".join(b.bytes() for b in issued.cert_chain_pems))
    async with server.listening(grpc.ssl_server_credentials([pair])) as url:
        trusting = client(**settings(url, ca_file=tmp_path / "ca.pem"))
        assert (await trusting.infer(request(1.0))).outputs == {"y": [2.0]}
        with pytest.raises(
            InferenceMisconfiguredError, match=r"trusted \(CERTIFICATE_VERIFY.*ca_f"
        ):
            await client(**settings(url)).infer(request(1.0))
    issued = authority.issue_cert("other.example")
    pair = (issued.private_key_pem.bytes(), b"".join(b.bytes() for b in issued.cert_chain_pems))
    async with server.listening(grpc.ssl_server_credentials([pair])) as url:
        with pytest.raises(InferenceMisconfiguredError, match="Hostname Verification"):
            await client(**settings(url, ca_file=tmp_path / "ca.pem")).infer(request(1.0))
    with pytest.raises(ConfigError, match=r"inference\.verify"):
        client(**settings(url, verify=False))
    with pytest.raises(ConfigError, match=r"inference\.ca_file"):
        client(**settings(url, ca_file=tmp_path / "none.pem"))
