"""The model ``example``: what it computes, and how it reads and writes v2 tensors.

Input ``x``: FP32 ``[n, 16]``. Output ``y``: FP32 ``[n]``, the mean of each row:
``y[i] = (x[i][0] + … + x[i][15]) / 16``, where the sum is rounded once (``math.fsum``). JSON
requests are computed and answered in double precision, so that JSON clients see ``expected``
exactly; binary tensors hold single precision.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import msgspec

MODEL = "example"
VERSION = "1"
FEATURES = 16

METADATA = {
    "name": MODEL,
    "versions": [VERSION],
    "platform": "python",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, FEATURES]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1]}],
}

HEADER_LENGTH = "inference-header-content-length"


class BadRequestError(Exception):
    """The request is not what the model takes; the text says why (HTTP 400)."""


def expected(features: Sequence[float]) -> float:
    """What the model answers for one row: the mean of its 16 features.

    Raises:
        BadRequestError: there are not 16, or one is not a finite number.
    """
    if len(features) != FEATURES:
        raise BadRequestError(f"has {len(features)} features, not {FEATURES}")
    try:
        mean = math.fsum(features) / FEATURES
    except (TypeError, ValueError, OverflowError):
        mean = math.nan
    if not math.isfinite(mean):
        raise BadRequestError("holds a value that is not a finite number")
    return mean


def predict(rows: Sequence[Sequence[float]]) -> list[float]:
    """What the model answers for all rows; an error names the row."""
    answers: list[float] = []
    try:
        answers.extend(map(expected, rows))
    except BadRequestError as error:
        raise BadRequestError(f"row {len(answers)} {error}") from None
    return answers


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: msgspec.Raw = msgspec.Raw()
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class _V2Request(msgspec.Struct):
    inputs: list[_Tensor]
    outputs: list[_Output] | None = None
    id: str = ""
    parameters: dict[str, Any] = {}


class _RestRequest(msgspec.Struct):
    instances: list[list[float]]


_v2_request = msgspec.json.Decoder(_V2Request)
_rest_request = msgspec.json.Decoder(_RestRequest)
_flat = msgspec.json.Decoder(list[float])
_nested = msgspec.json.Decoder(list[list[float]])
_encode = msgspec.json.Encoder().encode


class V2Call:
    """A v2 request, read; ``answer`` writes the response to it.

    Attributes:
        rows: the rows of ``x``.
    """

    def __init__(self, body: bytes, header_length: str | None) -> None:
        size = _header_size(body, header_length)
        try:
            request = _v2_request.decode(body if size is None else memoryview(body)[:size])
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"not a v2 request: {error}") from None
        if len(request.inputs) != 1 or request.inputs[0].name != "x":
            names = [tensor.name for tensor in request.inputs]
            raise BadRequestError(f"takes one input 'x', not {names}")
        self.rows = _rows(request.inputs[0], b"" if size is None else body[size:])
        self._id = request.id
        self._binary = bool(request.parameters.get("binary_data_output", False))
        for output in request.outputs or ():
            if output.name != "y":
                raise BadRequestError(f"has an output 'y', not {output.name!r}")
            self._binary = bool(output.parameters.get("binary_data", self._binary))

    def answer(self, y: list[float]) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """Body and headers of the response."""
        output: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": [len(y)]}
        response = {"model_name": MODEL, "model_version": VERSION, "outputs": [output]}
        if self._id:
            response["id"] = self._id
        if not self._binary:
            output["data"] = y
            return _encode(response), ()
        tensor = struct.pack(f"<{len(y)}f", *y)
        output["parameters"] = {"binary_data_size": len(tensor)}
        header = _encode(response)
        return header + tensor, ((HEADER_LENGTH, str(len(header))),)


class RestCall:
    """A request ``{"instances": [[…16 numbers…], …]}``, read.

    Attributes:
        rows: the instances.
    """

    def __init__(self, body: bytes) -> None:
        try:
            self.rows = _rest_request.decode(body).instances
        except (ValueError, RecursionError) as error:
            raise BadRequestError(f"not a request with instances: {error}") from None

    def answer(self, y: list[float]) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        """Body and headers of the response: ``{"predictions": […]}``."""
        return _encode({"predictions": y}), ()


def _header_size(body: bytes, header_length: str | None) -> int | None:
    if header_length is None:
        return None
    if not header_length.isdecimal() or int(header_length) > len(body):
        raise BadRequestError(f"{HEADER_LENGTH} {header_length!r} is not within the body")
    return int(header_length)


def _rows(tensor: _Tensor, binary: bytes) -> Sequence[Sequence[float]]:
    if tensor.datatype != "FP32":
        raise BadRequestError(f"input 'x' is FP32, not {tensor.datatype}")
    if len(tensor.shape) != 2 or tensor.shape[1] != FEATURES or tensor.shape[0] < 0:
        raise BadRequestError(f"input 'x' has shape [n, {FEATURES}], not {tensor.shape}")
    count = tensor.shape[0] * FEATURES
    data: Sequence[float]
    size = tensor.parameters.get("binary_data_size")
    if size is not None:
        if size != len(binary) or size != count * 4:
            raise BadRequestError(
                f"input 'x' of shape {tensor.shape} needs {count * 4} bytes;"
                f" binary_data_size is {size}, the body has {len(binary)}"
            )
        data = struct.unpack(f"<{count}f", binary)
    else:
        try:
            if b"".join(bytes(memoryview(tensor.data)[:32]).split()).startswith(b"[["):
                return _checked(_nested.decode(tensor.data), tensor.shape)
            data = _flat.decode(tensor.data)
        except ValueError as error:
            raise BadRequestError(f"input 'x' data: {error}") from None
    if len(data) != count:
        raise BadRequestError(
            f"input 'x' of shape {tensor.shape} needs {count} values, not {len(data)}"
        )
    return [data[start : start + FEATURES] for start in range(0, count, FEATURES)]


def _checked(rows: list[list[float]], shape: list[int]) -> list[list[float]]:
    if len(rows) != shape[0]:
        raise BadRequestError(f"input 'x' of shape {shape} has {len(rows)} rows")
    return rows
