"""Requests and responses of the Open Inference Protocol, as JSON alone or with binary tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sinfer.encoding import from_foreign_json, plain_json
from sinfer.errors import InferenceMisconfiguredError, InferenceRejectedError
from sinfer.inference.http import json_body
from sinfer.inference.v2.tensors import (
    NUMBERS,
    flatten,
    json_values,
    nest,
    no_number,
    pack_tensor,
    size_of,
    unpack_tensor,
    wrong_size,
)

HEADER_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class V2Response:
    """An answer, checked: each output has as many values as its shape says.

    Attributes:
        outputs: by name, nested as the shape says: ``[n]`` is a list of n values, ``[n, k]`` a list
            of n lists. Values of ``BYTES`` are ``str`` from JSON and ``bytes`` from binary tensors,
            but with ``binary: auto`` also ``str`` where they are UTF-8. A ``null`` among floats, as
            some servers write what is no number, is ``nan``.
        shapes, datatypes: by name, as the server gave them.
        model_name, model_version, id: as the server gave them; empty where it did not.
        raw: the whole JSON of the answer; binary tensors are not in it.
    """

    outputs: dict[str, list[Any]]
    shapes: dict[str, list[int]]
    datatypes: dict[str, str]
    model_name: str
    model_version: str
    id: str
    raw: dict[str, Any]

    def is_by_items(self, of: int) -> bool:
        """Whether each output has a row for each of so many items."""
        return bool(self.shapes) and all(shape[:1] == [of] for shape in self.shapes.values())

    def part_for(self, first: int, last: int, of: int) -> V2Response | None:
        """The answer to the items ``[first, last)`` of ``of``. Outputs that have not a row for each
        item stay whole; None where all do."""
        names = [name for name, shape in self.shapes.items() if shape[:1] == [of]]
        if not names:
            return None
        rows = {name: self.outputs[name][first:last] for name in names}
        shapes = {name: [last - first, *self.shapes[name][1:]] for name in names}
        raw = dict(self.raw)
        if "outputs" in raw:
            raw["outputs"] = [_part_of(output, first, last, of) for output in raw["outputs"]]
        return replace(
            self, outputs={**self.outputs, **rows}, shapes={**self.shapes, **shapes}, raw=raw
        )


def _part_of(output: dict[str, Any], first: int, last: int, of: int) -> dict[str, Any]:
    """Some rows of an output as it stands in the JSON of an answer."""
    shape = output["shape"]
    if shape[:1] != [of]:
        return output
    part = {**output, "shape": [last - first, *shape[1:]]}
    if isinstance(data := output.get("data"), list):
        size = len(data) // of
        part["data"] = data[first * size : last * size]
    return part


def encode_json_request(request: Any) -> bytes:
    """A request as JSON; tensors given as bytes are turned into lists.

    What is no number is written as ``null``, infinities as ``"Infinity"`` and ``"-Infinity"``:
    servers that use NumPy read them so, and JSON has no other form.

    Raises:
        InferenceMisconfiguredError: it has not the form of a v2 request.
        InferenceRejectedError: a value does not fit its datatype, or the data their shape.
    """
    inputs = list(inputs_of(request))
    if any(_needs_listing(tensor) for tensor in inputs):
        inputs = [_listed(tensor) for tensor in inputs]
        request = {**request, "inputs": inputs}
    for tensor in inputs:
        _check_size(tensor)
    body = json_body(request)
    # What JSON has no number for is written as null. To look for a letter is ten times as fast.
    if b"l" in body and b"null" in body:
        body = json_body({**request, "inputs": [_with_infinities(tensor) for tensor in inputs]})
    return body


def encode_binary_request(request: Any) -> tuple[bytes, int]:
    """A request whose tensors follow its JSON as bytes, and the length of the JSON.

    All outputs are asked for as binary, unless the request says otherwise.

    Raises:
        InferenceMisconfiguredError: it has not the form of a v2 request.
        InferenceRejectedError: a value does not fit its datatype, or the data their shape.
    """
    headers, tensors = [], []
    for tensor in inputs_of(request):
        if "data" not in tensor:
            headers.append(tensor)
            continue
        try:
            packed = pack_tensor(tensor["data"], tensor["datatype"], tensor["shape"])
        except (ValueError, TypeError) as error:
            raise InferenceRejectedError(f"input {tensor['name']!r}: {error}") from error
        header = {name: value for name, value in tensor.items() if name != "data"}
        header["parameters"] = {
            **(tensor.get("parameters") or {}),
            "binary_data_size": len(packed),
        }
        headers.append(header)
        tensors.append(packed)
    body = {**request, "inputs": headers}
    if outputs := request.get("outputs"):
        body["outputs"] = [
            {**output, "parameters": {"binary_data": True, **(output.get("parameters") or {})}}
            for output in outputs
        ]
    else:
        body["parameters"] = {"binary_data_output": True, **(request.get("parameters") or {})}
    encoded = json_body(body)
    return b"".join((encoded, *tensors)), len(encoded)


def decode_response(
    content: bytes, header_length: str | None, *, texts: bool = False
) -> V2Response:
    """An answer, with or without binary tensors.

    Args:
        content: the body.
        header_length: the header ``Inference-Header-Content-Length``, if there is one.
        texts: make values of ``BYTES`` that are UTF-8 ``str`` in binary tensors as well.

    Raises:
        ValueError: it is no v2 response, or not consistent.
    """
    tensors = memoryview(b"")
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > len(content):
            raise ValueError(f"{HEADER_LENGTH} {header_length!r} is not within the body")
        tensors = memoryview(content)[int(header_length) :]
        content = content[: int(header_length)]
    try:
        raw = plain_json(content)
    except (ValueError, RecursionError):
        raw = from_foreign_json(content)
    if not isinstance(raw, dict) or not isinstance(raw.get("outputs"), list):
        raise ValueError("has no outputs")
    response = V2Response(
        outputs={},
        shapes={},
        datatypes={},
        model_name=str(raw.get("model_name") or ""),
        model_version=str(raw.get("model_version") or ""),
        id=str(raw.get("id") or ""),
        raw=raw,
    )
    for output in raw["outputs"]:
        tensors = _take_output(response, output, tensors, texts=texts)
    if len(tensors):
        raise ValueError(f"{len(tensors)} bytes follow the last output")
    return response


def _take_output(
    response: V2Response, output: Any, tensors: memoryview, *, texts: bool
) -> memoryview:
    """Add an output to the response; return the binary tensors that are left."""
    if not isinstance(output, dict) or not isinstance(name := output.get("name"), str):
        raise ValueError("an output has no name")
    if name in response.outputs:
        raise ValueError(f"there are two outputs {name!r}")
    shape, datatype = output.get("shape"), output.get("datatype")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"output {name!r} has no shape, but {shape!r}")
    if not isinstance(datatype, str):
        raise ValueError(f"output {name!r} has no datatype")
    try:
        values, used = _values(output, datatype, tensors, texts=texts)
        if used is not None:
            response.outputs[name] = nest(values, shape)
        elif len(shape) == 1 and shape[0] == len(values) and _are_numbers(values):
            response.outputs[name] = list(values)
        else:
            response.outputs[name] = json_values(values, datatype, shape)
    except (ValueError, TypeError) as error:
        raise ValueError(f"output {name!r}: {error}") from error
    response.shapes[name] = shape
    response.datatypes[name] = datatype
    return tensors[used or 0 :]


def _values(
    output: dict[str, Any], datatype: str, tensors: memoryview, *, texts: bool
) -> tuple[list[Any], int | None]:
    """The values of an output, and how many bytes of the binary tensors they took; None where they
    are in the JSON."""
    size = (output.get("parameters") or {}).get("binary_data_size")
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(tensors):
            raise ValueError(f"binary_data_size {size!r} is not within the body")
        values = unpack_tensor(tensors[:size], datatype)
        if texts and datatype == "BYTES":
            values = [_text(value) for value in values]
        return values, size
    if not isinstance(data := output.get("data"), list):
        raise ValueError("has no data")
    return data, None


def _is_flat(data: Any) -> bool:
    """Whether data are a flat list; others may be as well."""
    return type(data) is list and bool(data) and not isinstance(data[0], list | tuple)


def _are_numbers(values: list[Any]) -> bool:
    """Whether values are numbers that JSON has, as nearly all are."""
    try:
        sum(values)
    except TypeError:
        return False
    return True


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def inputs_of(request: Any) -> Iterator[Mapping[str, Any]]:
    """The input tensors of a request.

    Raises:
        InferenceMisconfiguredError: it has not the form of a v2 request.
    """
    if not isinstance(request, Mapping) or not isinstance(request.get("inputs"), list | tuple):
        raise InferenceMisconfiguredError(
            "a v2 request is a mapping with a list of 'inputs'; see build_request of the pipeline"
        )
    for tensor in request["inputs"]:
        missing = {"name", "shape", "datatype"} - set(tensor)
        if missing:
            raise InferenceMisconfiguredError(
                f"an input of the v2 request lacks {', '.join(sorted(missing))};"
                " see build_request of the pipeline"
            )
        yield tensor


def _check_size(tensor: Mapping[str, Any]) -> None:
    """See that numbers are as many as their shape says: what is sent can blame no item else.

    Raises:
        InferenceRejectedError: they are not.
    """
    data = tensor.get("data")
    if tensor["datatype"] not in NUMBERS or data is None:
        return
    try:
        size = len(data) if _is_flat(data) else size_of(data)
        due = math.prod(tensor["shape"])
    except (TypeError, ValueError) as error:
        raise InferenceRejectedError(f"input {tensor['name']!r}: {error}") from error
    if size != due:
        text = wrong_size(tensor["shape"], size)
        raise InferenceRejectedError(f"input {tensor['name']!r}: {text}")


def _with_infinities(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tensor with names for infinities.

    Raises:
        InferenceRejectedError: there is nothing where a number is due.
    """
    data = tensor.get("data")
    if tensor["datatype"] not in NUMBERS or data is None:
        return tensor
    flat = flatten(data.tolist() if hasattr(data, "tolist") else data)
    if None in flat:
        raise InferenceRejectedError(
            f"input {tensor['name']!r}: {no_number(None, flat.index(None), tensor['datatype'])}"
        )
    if not any(map(_is_infinite, flat)):
        return tensor
    named = [("Infinity" if n > 0 else "-Infinity") if _is_infinite(n) else n for n in flat]
    return {**tensor, "data": named}


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _needs_listing(tensor: Mapping[str, Any]) -> bool:
    """Whether the data are something that the JSON encoder would not write as a list of values."""
    data = tensor.get("data")
    if isinstance(data, list | tuple):
        return bool(tensor["datatype"] == "BYTES")
    if isinstance(data, bytes | bytearray | memoryview):
        return True
    return data is not None and (tensor["datatype"] == "BYTES" or not hasattr(data, "tolist"))


def _listed(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tensor with data that JSON has a form for."""
    if not _needs_listing(tensor):
        return tensor
    data, datatype = tensor["data"], tensor["datatype"]
    try:
        if hasattr(data, "tolist") and not isinstance(data, memoryview):
            data = data.tolist()
        elif not isinstance(data, list | tuple):
            data = unpack_tensor(pack_tensor(data, datatype, tensor["shape"]), datatype)
        if datatype == "BYTES":
            data = [v.decode() if isinstance(v, bytes) else v for v in flatten(data)]
    except (ValueError, TypeError) as error:
        raise InferenceRejectedError(f"input {tensor['name']!r}: {error}") from error
    return {**tensor, "data": data}
