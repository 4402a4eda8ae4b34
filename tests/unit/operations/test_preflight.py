"""A request is compared with what the model's metadata say."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer.operations.preflight import differences

METADATA = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 16]}]}


def request(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP32", "shape": [4, 16], "data": []} | changes]}


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (request(), ""),
        (request(shape=[4, 15]), "has shape [4, 15], the model takes [-1, 16]"),
        (request(shape=[4]), "has shape [4]"),
        (request(datatype="FP64"), "is FP64, the model takes FP32"),
        (request(name="y"), "is not one of the model's (x)"),
        ({"inputs": []}, "'x' is not sent"),
        ([1, 2], "no mapping"),
    ],
)
def test_what_does_not_fit_is_named(sent: Any, problem: str) -> None:
    found = differences(sent, METADATA)
    assert bool(found) == bool(problem)
    assert problem in "; ".join(found)
