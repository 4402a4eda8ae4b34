"""Requests of the v2 protocol are written, and answers read and checked, with and without bytes."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np
import pytest

from sinfer.errors import InferenceMisconfiguredError, InferenceRejectedError
from sinfer.inference.v2_messages import (
    decode_response,
    encode_binary_request,
    encode_json_request,
)


def request(data: Any, datatype: str = "FP32", shape: list[int] | None = None) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "shape": shape or [2], "datatype": datatype, "data": data}]}


def output(**changes: Any) -> bytes:
    fields = {"name": "y", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0]} | changes
    present = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({"model_name": "m", "model_version": "3", "outputs": [present]}).encode()


@pytest.mark.parametrize(
    "data",
    [
        [1.0, 2.0],
        (1.0, 2.0),
        np.array([1, 2], dtype="f4"),
        struct.pack("<2f", 1, 2),
        memoryview(struct.pack("<2f", 1, 2)),
    ],
)
def test_json_holds_a_list_whatever_the_data_were(data: Any) -> None:
    given = request(data)
    assert json.loads(encode_json_request(given)) == request([1.0, 2.0])
    assert given["inputs"][0]["data"] is data


@pytest.mark.parametrize(
    "data", [["a", "é"], [b"a", "é".encode()], np.array(["a", "é"]), b"\1\0\0\0a\2\0\0\0\xc3\xa9"]
)
def test_json_holds_strings_whatever_they_were(data: Any) -> None:
    assert json.loads(encode_json_request(request(data, "BYTES"))) == request(["a", "é"], "BYTES")


@pytest.mark.parametrize(
    "data",
    [
        [[1.0], [2.0]],
        np.array([[1], [2]], dtype="f4"),
        struct.pack("<2f", 1, 2),
        bytearray(struct.pack("<2f", 1, 2)),
    ],
)
def test_binary_tensors_follow_the_json(data: Any) -> None:
    given = request(data, shape=[2, 1]) | {"id": "7"}
    body, length = encode_binary_request(given)
    assert json.loads(body[:length]) == {
        "id": "7",
        "inputs": [
            {
                "name": "x",
                "shape": [2, 1],
                "datatype": "FP32",
                "parameters": {"binary_data_size": 8},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    assert body[length:] == struct.pack("<2f", 1, 2)
    assert given["inputs"][0]["data"] is data


def test_named_outputs_are_asked_for_as_binary_unless_they_say_otherwise() -> None:
    outputs = [{"name": "y"}, {"name": "z", "parameters": {"binary_data": False}}]
    body, length = encode_binary_request(request([1, 2]) | {"outputs": outputs})
    asked = json.loads(body[:length])["outputs"]
    assert [entry["parameters"]["binary_data"] for entry in asked] == [True, False]


@pytest.mark.parametrize("wrong", [None, [], {}, {"inputs": {}}, {"inputs": [{"name": "x"}]}])
def test_something_else_than_a_request_is_a_mistake_of_the_pipeline(wrong: Any) -> None:
    with pytest.raises(InferenceMisconfiguredError, match="v2 request"):
        encode_json_request(wrong)
    with pytest.raises(InferenceMisconfiguredError, match="v2 request"):
        encode_binary_request(wrong)


def test_a_value_that_cannot_be_written_rejects_the_request() -> None:
    with pytest.raises(InferenceRejectedError, match="JSON"):
        encode_json_request(request([1.0, object()]))
    with pytest.raises(InferenceRejectedError, match="'x'"):
        encode_json_request(request([b"\xff"], "BYTES"))
    with pytest.raises(InferenceRejectedError, match="'x': not FP32"):
        encode_binary_request(request([1.0, None]))
    with pytest.raises(InferenceRejectedError, match="needs 8 bytes"):
        encode_binary_request(request([1.0]))


def test_an_answer_in_json_is_read() -> None:
    response = decode_response(output(), None)
    assert response.outputs == {"y": [1.0, 2.0]}
    assert response.shapes == {"y": [2]}
    assert response.datatypes == {"y": "FP32"}
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "")
    assert response.raw["outputs"][0]["name"] == "y"


@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
@pytest.mark.parametrize("text", ["NaN", "null"])
def test_what_is_no_number_is_nan_however_the_server_writes_it(datatype: str, text: str) -> None:
    answer = {"name": "y", "shape": [3], "datatype": datatype, "data": [1.0, "?", "-?"]}
    content = json.dumps({"outputs": [answer]}).replace('"?"', text).replace('"-?"', "-Infinity")
    one, nan, least = decode_response(content.encode(), None).outputs["y"]
    assert (one, math.isnan(nan), least) == (1.0, True, -math.inf)


def test_a_missing_whole_number_is_left_to_the_pipeline() -> None:
    answer = {"name": "y", "shape": [2], "datatype": "INT64", "data": [1, None]}
    content = json.dumps({"outputs": [answer]}).encode()
    assert decode_response(content, None).outputs["y"] == [1, None]


@pytest.mark.parametrize("data", [[1, 2, 3, 4], [[1, 2], [3, 4]]])
def test_an_output_is_nested_as_its_shape_says(data: Any) -> None:
    assert decode_response(output(data=data, shape=[2, 2]), None).outputs["y"] == [[1, 2], [3, 4]]


def test_binary_outputs_are_read_in_their_order() -> None:
    header = json.dumps(
        {
            "outputs": [
                {"name": "a", "shape": [2], "datatype": "INT16"}
                | {"parameters": {"binary_data_size": 4}},
                {"name": "b", "shape": [1], "datatype": "FP32", "data": [5]},
                {"name": "c", "shape": [1, 1], "datatype": "BYTES"}
                | {"parameters": {"binary_data_size": 5}},
            ]
        }
    ).encode()
    body = header + struct.pack("<2h", -1, 2) + b"\1\0\0\0z"
    response = decode_response(body, str(len(header)))
    assert response.outputs == {"a": [-1, 2], "b": [5], "c": [[b"z"]]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (b"[]", "no outputs"),
        (b'{"error": "busy"}', "no outputs"),
        (b'{"outputs": [1]}', "no name"),
        (output(shape=None), "no shape"),
        (output(shape=[-1]), "no shape"),
        (output(shape=[True]), "no shape"),
        (output(datatype=None), "no datatype"),
        (output(data=None), "'y': has no data"),
        (output(data="12"), "'y': has no data"),
        (output(shape=[3]), r"'y': shape \[3\] does not hold 2 values"),
        (output(shape=[2, 2], data=[[1, 2], 3]), "'y'"),
        (output(parameters={"binary_data_size": 8}), "not within the body"),
        (output(parameters={"binary_data_size": -1}), "not within the body"),
    ],
)
def test_an_answer_that_is_not_consistent_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_response(content, None)


@pytest.mark.parametrize("length", ["x", "-1", "999999", ""])
def test_a_wrong_header_length_is_refused(length: str) -> None:
    with pytest.raises(ValueError, match="not within the body"):
        decode_response(output(), length)


def test_bytes_that_belong_to_no_output_are_refused() -> None:
    with pytest.raises(ValueError, match="3 bytes follow"):
        decode_response(output() + b"abc", str(len(output())))
