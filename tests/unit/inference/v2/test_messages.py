"""Requests of the v2 protocol are written, and answers read and checked, with and without bytes."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sinfer.errors import InferenceMisconfiguredError, InferenceRejectedError
from sinfer.inference.v2.messages import decode_response, encode_binary_request, encode_json_request
from sinfer.inference.v2.tensors import pack_tensor


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
    with pytest.raises(InferenceRejectedError, match="needs 8 bytes, the data are 4"):
        encode_binary_request(request(b"\0" * 4))


@pytest.mark.parametrize("encode", [encode_json_request, encode_binary_request])
@pytest.mark.parametrize("form", [lambda data: data, lambda data: [[data[0]], [data[1]]]])
@pytest.mark.parametrize(
    ("datatype", "told"),
    [
        ("FP32", "'x': value 1 is null where FP32 is due; write nan for a number that is missing"),
        ("INT64", "'x': value 1 is null where INT64 is due$"),
    ],
)
def test_a_number_that_is_missing_is_told_with_its_place(
    encode: Callable[[Any], Any], form: Callable[[Any], Any], datatype: str, told: str
) -> None:
    with pytest.raises(InferenceRejectedError, match=told):
        encode(request(form([1, None]), datatype))


@pytest.mark.parametrize("encode", [encode_json_request, encode_binary_request])
@pytest.mark.parametrize(
    ("data", "shape", "told"),
    [
        ([1.0, 2.0, 3.0], [2], "needs"),
        ([[1.0, 2.0], [3.0]], [2, 2], "needs"),
        ([[[1.0]], [[2.0]]], [2, 2], "needs"),
        (np.zeros((3, 2), dtype="f4"), [2, 2], "needs"),
        ([[1.0], 2.0], [2], "'x'"),
    ],
)
def test_data_that_do_not_fit_their_shape_are_not_sent(
    encode: Callable[[Any], Any], data: Any, shape: list[int], told: str
) -> None:
    with pytest.raises(InferenceRejectedError, match=told):
        encode(request(data, shape=shape))


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "FP16", "BF16"])
def test_numbers_that_json_has_no_form_for_are_written_as_servers_read_them(datatype: str) -> None:
    data = [1.0, math.nan, math.inf, -math.inf]
    for given in (data, [data[:2], data[2:]], np.array(data)):
        body = encode_json_request(request(given, datatype, [4]))
        assert json.loads(body)["inputs"][0]["data"] == [1.0, None, "Infinity", "-Infinity"]


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


FORMS: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "literals": ("[1.5, NaN, Infinity, -Infinity]", str.encode),
    "strings": ('[1.5, "NaN", "Infinity", "-Infinity"]', str.encode),
    "short strings": ('[1.5, "nan", "inf", "-inf"]', str.encode),
    "too large": ("[1.5, null, 1e999, -1e999]", str.encode),
    "byte order mark": ("[1.5, NaN, Infinity, -Infinity]", lambda t: t.encode("utf-8-sig")),
    "UTF-16": ("[1.5, NaN, Infinity, -Infinity]", lambda t: t.encode("utf-16")),
    "UTF-32": ('[1.5, null, "Infinity", "-Infinity"]', lambda t: t.encode("utf-32")),
    "nested": ("[[1.5, NaN], [Infinity, -Infinity]]", str.encode),
    "lines around": (
        "[1.5, NaN, Infinity, -Infinity]",
        lambda t: b"\n \r\n" + t.encode() + b"\r\n",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("datatype", ["FP16", "BF16", "FP32", "FP64"])
def test_json_gives_what_binary_tensors_give(form: str, datatype: str) -> None:
    data, encode = FORMS[form]
    shape = [2, 2] if form == "nested" else [4]
    text = '{"outputs": [{"name": "y", "shape": %s, "datatype": "%s", "data": %s}]}'
    given = decode_response(encode(text % (shape, datatype, data)), None)
    packed = pack_tensor([1.5, math.nan, math.inf, -math.inf], datatype, [4])
    fields = {"name": "y", "shape": shape, "datatype": datatype}
    header = json.dumps({"outputs": [fields | {"parameters": {"binary_data_size": len(packed)}}]})
    binary = decode_response(header.encode() + packed, str(len(header)))
    assert repr(given.outputs) == repr(binary.outputs)


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("write", ["{}", '"{}"'], ids=["number", "string"])
def test_large_whole_numbers_are_exact(number: int, write: str) -> None:
    text = '{"outputs": [{"name": "y", "shape": [1], "datatype": "INT64", "data": [?]}]}'
    content = text.replace("?", write.format(number)).encode()
    assert decode_response(content, None).outputs["y"] == [number]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ('["high"]', "output 'y': value 0 is no FP32: 'high'"),
        ("[{}]", "output 'y': value 0 is no FP32: {}"),
        ("5", "output 'y': has no data"),
    ],
)
def test_an_answer_without_numbers_where_numbers_are_due_is_told(data: str, told: str) -> None:
    text = '{"outputs": [{"name": "y", "shape": [1], "datatype": "FP32", "data": %s}]}'
    with pytest.raises(ValueError, match=told):
        decode_response((text % data).encode(), None)


def test_of_a_name_that_comes_twice_the_last_counts_and_outputs_of_one_name_are_an_error() -> None:
    y = '{"name": "x", "name": "y", "shape": [1], "datatype": "FP32", "data": [1], "data": [2]}'
    assert decode_response(b'{"outputs": [%s]}' % y.encode(), None).outputs == {"y": [2]}
    with pytest.raises(ValueError, match="there are two outputs 'y'"):
        decode_response(b'{"outputs": [%s, %s]}' % (y.encode(), y.encode()), None)


def test_texts_in_binary_tensors_are_str_where_json_would_have_them() -> None:
    packed = pack_tensor(["a", "é", b"\xff"], "BYTES", [3])
    fields = {"name": "y", "shape": [3], "datatype": "BYTES"}
    header = json.dumps({"outputs": [fields | {"parameters": {"binary_data_size": len(packed)}}]})
    body = header.encode() + packed
    assert decode_response(body, str(len(header))).outputs["y"] == [b"a", "é".encode(), b"\xff"]
    read = decode_response(body, str(len(header)), texts=True)
    assert read.outputs["y"] == ["a", "é", b"\xff"]


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
