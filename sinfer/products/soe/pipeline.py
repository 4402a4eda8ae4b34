"""What soe does with its messages: align them, ask for set-points, keep every answer."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, FiniteFloat

from sinfer import InferPipeline, Message, Result, Window
from sinfer.products.soe.sensor_grid import Grid, Reading, align
from sinfer.products.soe.sink import SetPointSink
from sinfer.products.soe.task import SoeTask

__all__ = ["Answer", "Measurement", "SetPointSink", "SoePipeline"]  # the sink is known by its type


class Measurement(BaseModel):
    """A message. What does not fit becomes a dead letter; so does NaN, which no model takes."""

    time: FiniteFloat
    """Seconds since the epoch."""
    value: FiniteFloat


class Answer(BaseModel):
    """The result of a window, as it is stored and published."""

    plant: str
    unit: str
    start: float
    end: float
    """The window, seconds since the epoch. Set-points with an older ``end`` are out of date."""
    status: Literal["converged", "infeasible", "not_converged", "out_of_bounds"]
    reason: str
    """Why there are no set-points."""
    setpoints: dict[str, float]
    """By sensor; empty unless converged."""
    objective: float | None
    """What the set-points should lead to; None unless converged."""
    stale: list[str]
    """Sensors that were silent for too long before the window's end."""


class SoePipeline(InferPipeline[SoeTask, Reading]):
    """One call to the model for each window of a unit, and one answer, whatever it is."""

    results_per = "window"

    def preprocess(self, message: Message) -> Reading | None:
        sensor = message.subject.rpartition(".")[2]
        if sensor not in self.task.sensors:
            return None  # measured, but not asked for: filtered out
        found = Measurement.model_validate_json(message.data)
        return Reading(sensor, found.time, found.value)

    def key(self, item: Reading) -> str:
        return self.task.unit  # all sensors of a unit share its windows

    def event_time(self, item: Reading) -> float | None:
        return item.time

    def build_request(self, window: Window[Reading]) -> dict[str, Any]:
        task, grid = self.task, self._grid(window)
        shape = [len(grid.values), len(grid.values[0])]  # sensors, seconds
        bounds = list(task.bounds.values())
        return {
            "inputs": [
                _tensor("sensors", "BYTES", shape[:1], task.sensors),
                _tensor("values", "FP64", shape, grid.values),
                _tensor("known", "BOOL", shape, grid.known),
                _tensor("bounded", "BYTES", [len(bounds)], list(task.bounds)),
                _tensor("bounds", "FP64", [len(bounds), 2], bounds),
            ],
            "parameters": {
                "objective": task.objective.sensor,
                "sense": task.objective.sense,
                "horizon": task.horizon.total_seconds(),
            },
        }

    def build_results(self, window: Window[Reading], response: Any) -> list[Result]:
        outputs = {name: [_text(v) for v in values] for name, values in response.outputs.items()}
        (status,), (reason,) = outputs["status"], outputs["reason"]
        setpoints = dict(zip(outputs["names"], outputs["setpoints"], strict=True))
        if status == "converged" and (wrong := self._out_of_bounds(setpoints)):
            # Nobody should have to trust a model with a valve.
            status, reason = "out_of_bounds", wrong
        has_converged = status == "converged"
        answer = Answer(
            plant=self.task.plant,
            unit=self.task.unit,
            start=window.start or 0,
            end=window.end or 0,
            status=status,
            reason=reason,
            setpoints=setpoints if has_converged else {},
            objective=outputs["objective"][0] if has_converged else None,
            stale=self._grid(window).stale,
        )
        return [Result(answer)]

    def _grid(self, window: Window[Reading]) -> Grid:
        start, end = window.start or 0, window.end or 0  # always there with event time
        max_gap = int(self.task.max_gap.total_seconds())
        return align(window, self.task.sensors, start, round(end - start), max_gap)

    def _out_of_bounds(self, setpoints: dict[str, float]) -> str:
        for name, value in setpoints.items():
            if name not in self.task.bounds:
                return f"{name}: nobody gave bounds for it"
            low, high = self.task.bounds[name]
            if not low <= value <= high:
                return f"{name}: {value:g} is not within {low:g} and {high:g}"
        return ""


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _text(value: Any) -> Any:
    """Texts are bytes in binary tensors, and str in JSON."""
    return value.decode() if isinstance(value, bytes) else value
