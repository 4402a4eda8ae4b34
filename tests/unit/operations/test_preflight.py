"""A request is compared with what the model's metadata say."""

from __future__ import annotations

from typing import Any

import pytest

from sinfer import InferTaskConfig
from sinfer.operations.preflight.request import differences
from sinfer.operations.preflight.task import held_back
from tests.support.task_settings import settings_of

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


EVENTS = {"type": "tumbling", "size": "1s", "time": "event"}


@pytest.mark.parametrize(
    ("window", "partitions", "warns"),
    [
        (EVENTS, ["a", "b"], True),
        (EVENTS | {"idle": "5s"}, ["a", "b"], False),
        (EVENTS, ["a"], False),
        ({"type": "tumbling", "size": "1s"}, ["a", "b"], False),
    ],
    ids=["no idle", "idle", "one partition", "processing time"],
)
def test_a_partition_that_can_hold_back_all_windows_is_warned_of(
    window: dict[str, Any], partitions: list[str], warns: bool
) -> None:
    source = {"stream": "S", "partitions": partitions}
    task = InferTaskConfig.model_validate(settings_of("t", window=window, source=source))
    assert ("set window.idle" in held_back(task)) == warns
