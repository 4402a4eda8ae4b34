"""What soe asks the model for, and what becomes of each kind of answer."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sinfer import Message, Window
from sinfer.encoding import from_json, to_json
from sinfer.inference import V2Response
from sinfer.inference.v2.messages import decode_response
from sinfer.products.soe.pipeline import Answer, SoePipeline
from sinfer.products.soe.sensor_grid import Reading
from tests.support.soe_task import soe_task

START = 1_700_000_000.0
SENSORS = ["temperature", "flow", "activity", "impurity", "profit"]


def message(sensor: str, value: Any, time: float = START) -> Message:
    return Message(to_json({"time": time, "value": value}), f"soe.north.r1.{sensor}")


def window(pipeline: SoePipeline, messages: list[Message]) -> Window[Reading]:
    items = [item for item in map(pipeline.preprocess, messages) if item is not None]
    return Window(items, messages, id="w", task="north.r1", key="r1", start=START, end=START + 60)


def full(pipeline: SoePipeline, silent_after: int = 60) -> Window[Reading]:
    """A reading of each sensor in each second; those of ``activity`` end early."""
    return window(
        pipeline,
        [
            message(sensor, 10 * row + second / 60, START + second)
            for second in range(60)
            for row, sensor in enumerate(SENSORS)
            if sensor != "activity" or second < silent_after
        ],
    )


def response(status: str, setpoints: dict[str, float], objective: list[float]) -> V2Response:
    """As a server gives it."""

    def output(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}

    outputs = [
        output("status", "BYTES", [status]),
        output("reason", "BYTES", ["" if status == "converged" else "why not"]),
        output("names", "BYTES", list(setpoints)),
        output("setpoints", "FP64", list(setpoints.values())),
        output("objective", "FP64", objective),
    ]
    return decode_response(to_json({"outputs": outputs}), None)


def answer(pipeline: SoePipeline, given: V2Response) -> Answer:
    (result,) = pipeline.build_results(full(pipeline), given)
    assert isinstance(result.data, Answer)
    return result.data


@pytest.fixture
def pipeline() -> SoePipeline:
    return SoePipeline(soe_task())


def test_a_message_is_a_reading_of_the_sensor_in_its_subject(pipeline: SoePipeline) -> None:
    item = pipeline.preprocess(message("flow", 2.5, START + 7))
    assert item == Reading("flow", START + 7, 2.5)
    assert pipeline.event_time(item) == START + 7
    assert pipeline.key(item) == "r1"


def test_sensors_that_nobody_asked_for_are_filtered_out(pipeline: SoePipeline) -> None:
    assert pipeline.preprocess(message("humidity", 2.5)) is None


@pytest.mark.parametrize("value", [None, "warm", float("nan"), [1]])
def test_what_is_no_number_is_refused(pipeline: SoePipeline, value: Any) -> None:
    with pytest.raises(ValidationError):
        pipeline.preprocess(message("flow", value))


def test_the_request_carries_sensors_by_time_and_the_bounds(pipeline: SoePipeline) -> None:
    request = pipeline.build_request(full(pipeline))
    inputs = {tensor["name"]: tensor for tensor in request["inputs"]}
    assert inputs["values"]["shape"] == inputs["known"]["shape"] == [5, 60]
    assert inputs["sensors"]["data"] == SENSORS
    assert inputs["values"]["data"][1][30] == pytest.approx(10.5)
    assert all(map(all, inputs["known"]["data"]))
    assert inputs["bounded"]["data"] == ["temperature", "flow", "impurity"]
    assert inputs["bounds"]["data"] == [(345, 385), (0.5, 2.2), (0, 0.15)]
    assert request["parameters"] == {"objective": "profit", "sense": "maximize", "horizon": 30.0}


def test_a_converged_answer_has_setpoints_and_what_to_expect(pipeline: SoePipeline) -> None:
    found = answer(pipeline, response("converged", {"temperature": 360.0, "flow": 1.0}, [12.5]))
    assert found.status == "converged"
    assert found.setpoints == {"temperature": 360, "flow": 1}
    assert found.objective == 12.5
    assert (found.plant, found.unit) == ("north", "r1")
    assert (found.start, found.end) == (START, START + 60)


@pytest.mark.parametrize("status", ["infeasible", "not_converged"])
def test_other_answers_are_kept_without_setpoints(pipeline: SoePipeline, status: str) -> None:
    found = answer(pipeline, response(status, {"temperature": 360.0}, []))
    assert found.status == status
    assert found.reason == "why not"
    assert found.setpoints == {}
    assert found.objective is None


@pytest.mark.parametrize(
    ("setpoints", "reason"),
    [
        ({"temperature": 500.0, "flow": 1.0}, "temperature: 500 is not within 345 and 385"),
        ({"pressure": 3.0}, "pressure: nobody gave bounds for it"),
    ],
)
def test_setpoints_out_of_bounds_are_never_believed(
    pipeline: SoePipeline, setpoints: dict[str, float], reason: str
) -> None:
    found = answer(pipeline, response("converged", setpoints, [99.0]))
    assert found.status == "out_of_bounds"
    assert found.reason == reason
    assert found.setpoints == {}


def test_an_answer_names_the_sensors_that_were_silent(pipeline: SoePipeline) -> None:
    given = response("not_converged", {}, [])
    (result,) = pipeline.build_results(full(pipeline, silent_after=50), given)
    assert result.data.stale == ["activity"]
    (result,) = pipeline.build_results(full(pipeline, silent_after=55), given)
    assert result.data.stale == []


def test_an_answer_is_one_json_object(pipeline: SoePipeline) -> None:
    found = answer(pipeline, response("converged", {"temperature": 360.0, "flow": 1.0}, [12.5]))
    assert from_json(to_json(found))["setpoints"] == {"temperature": 360, "flow": 1}
