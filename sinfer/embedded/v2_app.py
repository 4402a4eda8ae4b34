"""Any model behind the Open Inference Protocol (v2): what its server does with HTTP requests.

=================================================================  ===============================
``GET  /v2``, ``/v2/health/live``, ``/v2/health/ready``             the server
``GET  /v2/models/{name}[/versions/{version}][/ready]``             the model
``POST /v2/models/{name}[/versions/{version}]/infer``               an inference
=================================================================  ===============================

Tensors come and go as JSON or, with the extension ``binary_tensor_data``, as bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from sinfer.embedded.example_model import HEADER_LENGTH, BadRequestError
from sinfer.embedded.http_server import Json, application
from sinfer.embedded.v2_routes import v2_routes
from sinfer.extras import extras_named
from sinfer.inference.v2.tensors import flatten, nest, pack_tensor, unpack_tensor

with extras_named():
    from starlette.requests import Request

Headers = tuple[tuple[str, str], ...]

_SERVER = {"name": "sinfer-v2", "version": "1", "extensions": ["binary_tensor_data"]}
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Tensor:
    """One output of a model: ``data`` is flat, row by row."""

    name: str
    datatype: str
    shape: Sequence[int]
    data: Sequence[Any]


class Model(Protocol):
    """What a server needs of a model."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Name, versions, platform, inputs and outputs, as the protocol defines them."""

    def infer(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> list[Tensor]:
        """Answer a request; in a thread.

        Args:
            inputs: by name, nested as their shapes say; ``BYTES`` are ``str``.
            parameters: of the request.

        Raises:
            BadRequestError: the request is not what the model takes.
        """


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    outputs: list[dict[str, Any]] = []
    id: str = ""
    parameters: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Request).decode


class V2App:
    """Answers the requests of all connections; one inference at a time, in a thread.

    Args:
        model: the one model that is served.

    Attributes:
        asgi: what a server serves.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.asgi = application(
            v2_routes(_SERVER, model.metadata, self._answer, "there is no model at {path}"),
            no_path="there is nothing at {path}",
            not_allowed="{method} is not for this path",
        )

    async def _answer(self, request: Request) -> Json:
        body, header_length = await request.body(), request.headers.get(HEADER_LENGTH)
        loop = asyncio.get_running_loop()
        answer, headers = await loop.run_in_executor(self._thread, self._infer, body, header_length)
        return Json(answer, headers=dict(headers))

    def _infer(self, body: bytes, header_length: str | None) -> tuple[bytes, Headers]:
        request, inputs = read_request(body, header_length)
        outputs = self._model.infer(inputs, request.parameters)
        response: dict[str, Any] = {
            "model_name": self._model.metadata["name"],
            "model_version": self._model.metadata["versions"][0],
        }
        if request.id:
            response["id"] = request.id
        asked = {output["name"]: output.get("parameters", {}) for output in request.outputs}
        if unknown := asked.keys() - {output.name for output in outputs}:
            raise BadRequestError(f"there is no output {min(unknown)!r}")
        binary = request.parameters.get("binary_data_output", False)
        wanted = [o for o in outputs if not asked or o.name in asked]
        are_binary = [asked.get(o.name, {}).get("binary_data", binary) for o in wanted]
        return write_response(response, wanted, are_binary)


def read_request(body: bytes, header_length: str | None) -> tuple[_Request, dict[str, Any]]:
    """A request, and its inputs by name.

    Raises:
        BadRequestError: it is no v2 request, or not consistent.
    """
    size = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > size:
            raise BadRequestError(f"{HEADER_LENGTH} {header_length!r} is not within the body")
        size = int(header_length)
    try:
        request = _decode(memoryview(body)[:size])
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"not a v2 request: {error}") from None
    inputs: dict[str, Any] = {}
    for tensor in request.inputs:
        packed = tensor.parameters.get("binary_data_size")
        try:
            if packed is not None:
                if type(packed) is not int or not 0 <= packed <= len(body) - size:
                    raise ValueError(f"binary_data_size {packed!r} is not within the body")
                data: Sequence[Any] = unpack_tensor(body[size : size + packed], tensor.datatype)
                size += packed
            elif tensor.data is None:
                raise ValueError("has no data")
            else:
                data = flatten(tensor.data)
            if tensor.datatype == "BYTES":
                data = [text.decode() if isinstance(text, bytes) else text for text in data]
            inputs[tensor.name] = nest(list(data), tensor.shape)
        except (ValueError, TypeError) as error:
            raise BadRequestError(f"input {tensor.name!r}: {error}") from None
    return request, inputs


def write_response(
    response: Mapping[str, Any], outputs: Sequence[Tensor], are_binary: Sequence[bool]
) -> tuple[bytes, Headers]:
    """Body and headers of an answer.

    Args:
        response: everything but the outputs.
        are_binary: for each output, whether it goes as bytes behind the JSON.
    """
    listed, packed = [], []
    for output, is_binary in zip(outputs, are_binary, strict=True):
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if is_binary:
            packed.append(pack_tensor(output.data, output.datatype, output.shape))
            entry["parameters"] = {"binary_data_size": len(packed[-1])}
        else:
            entry["data"] = list(output.data)
        listed.append(entry)
    header = _encode({**response, "outputs": listed})
    headers: Headers = ((HEADER_LENGTH, str(len(header))),) if packed else ()
    return b"".join((header, *packed)), headers
