"""The reference model computes what it documents and refuses what it cannot take."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest

from sinfer.embedded.example_model import BadRequestError, RestCall, V2Call, expected, predict
from sinfer.embedded.model_faults import Fault, FaultQueue

ROW = [float(n) for n in range(16)]


def body(data: Any, shape: list[int] | None = None, **changes: Any) -> bytes:
    tensor = {"name": "x", "shape": shape or [1, 16], "datatype": "FP32", "data": data} | changes
    return json.dumps({"inputs": [tensor]}).encode()


def test_it_answers_the_mean_of_16_features() -> None:
    assert expected(ROW) == 7.5
    assert expected([0.1] * 16) == 0.1
    assert predict([ROW, ROW[::-1]]) == [7.5, 7.5]


@pytest.mark.parametrize("data", [ROW, [ROW], [int(x) for x in ROW]])
def test_data_may_be_flat_or_nested(data: Any) -> None:
    assert [list(row) for row in V2Call(body(data), None).rows] == [ROW]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not a v2 request"),
        (b"[" * 100_000, "not a v2 request"),
        (b"{}", "missing required field `inputs`"),
        (b'{"inputs": []}', "takes one input"),
        (body(ROW, name="z"), "takes one input"),
        (body(ROW, datatype="FP64"), "is FP32"),
        (body(ROW, [16]), "shape"),
        (body(ROW, [2, 8]), "shape"),
        (body(ROW, [2, 16]), "needs 32 values, not 16"),
        (body([ROW], [2, 16]), "has 1 rows"),
        (body([None, *ROW[1:]]), "got `null`"),
        (body([True, *ROW[1:]]), "got `bool`"),
        (body([math.nan, *ROW[1:]]), "JSON is malformed"),
        (body("x"), "Expected `array`"),
        (body(ROW, parameters={"binary_data_size": 64}), "needs 64 bytes"),
    ],
)
def test_a_wrong_request_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(BadRequestError, match=reason):
        V2Call(content, None)


def test_a_row_that_is_not_finite_is_named() -> None:
    for value in (math.nan, math.inf, 1.7e308):
        with pytest.raises(BadRequestError, match="row 1 holds a value that is not a finite"):
            predict([ROW, [value] * 16])
    with pytest.raises(BadRequestError, match="row 1 has 15 features"):
        predict([ROW, ROW[1:]])


def test_binary_tensors_go_both_ways() -> None:
    request: dict[str, Any] = json.loads(body([]))
    del request["inputs"][0]["data"]
    request["inputs"][0]["parameters"] = {"binary_data_size": 64}
    request["parameters"] = {"binary_data_output": True}
    header = json.dumps(request).encode()
    call = V2Call(header + struct.pack("<16f", *ROW), str(len(header)))
    content, headers = call.answer(predict(call.rows))
    assert content[int(dict(headers)["inference-header-content-length"]) :] == struct.pack(
        "<f", 7.5
    )


def test_a_rest_request_has_instances() -> None:
    assert RestCall(json.dumps({"instances": [ROW]}).encode()).rows == [ROW]
    with pytest.raises(BadRequestError, match="instances"):
        RestCall(b"{}")


def test_faults_happen_in_order_and_as_often_as_ordered() -> None:
    queue = FaultQueue()
    queue.replace([Fault(status=503, count=2), Fault(mode="garbage"), Fault(status=500, count=0)])
    modes = [fault.mode if (fault := queue.next_for([ROW])) else None for _ in range(4)]
    assert modes == ["status", "status", "garbage", None]


def test_a_fault_may_hit_one_value_only_and_for_ever() -> None:
    queue = FaultQueue()
    queue.replace([Fault(status=500, value=3.0, count=None)])
    assert queue.next_for([ROW[4:]]) is None
    assert all(queue.next_for([ROW]) for _ in range(5))
