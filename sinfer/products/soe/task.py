"""The settings of one task of soe: a unit of a plant, and what to optimize there."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sinfer import InferTaskConfig
from sinfer.config.model import ConfigModel
from sinfer.config.units import Duration, to_ms
from sinfer.windows.specs import SlidingWindow, TumblingWindow

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""A part of a NATS subject."""


class Objective(ConfigModel):
    """What to optimize."""

    sensor: Name
    """Whose readings count."""
    sense: Literal["maximize", "minimize"] = "maximize"
    """Whether more of it is better, or less."""


class SoeTask(InferTaskConfig):
    """One unit of a plant. Its readings come on ``soe.<plant>.<unit>.<sensor>``."""

    plant: Name
    """The plant that the unit is in."""
    unit: Name
    """Where its readings come from, and its set-points go to."""
    sensors: list[Name] = Field(min_length=1)
    """The rows of the tensors that the model gets, in this order."""
    bounds: dict[Name, tuple[float, float]]
    """Low and high of each setting that the model may choose, and of each sensor that has to stay
    within some."""
    objective: Objective
    """What the set-points are to bring about."""
    horizon: Duration = Field(default="60s", validate_default=True)
    """For how long set-points have to be good."""
    max_gap: Duration = Field(default="5s", validate_default=True)
    """How long the last reading of a sensor counts (see ``alignment``)."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.plant == "setpoints":
            raise ValueError("plant: 'setpoints' is taken: soe.setpoints.> is for set-points")
        if len(set(self.sensors)) != len(self.sensors):
            raise ValueError("sensors: a name comes twice")
        for name in (*self.bounds, self.objective.sensor):
            if name not in self.sensors:
                raise ValueError(f"bounds and objective: {name!r} is not among the sensors")
        for name, (low, high) in self.bounds.items():
            if not low < high:
                raise ValueError(f"bounds.{name}: low must be below high (got {low}, {high})")
        window = self.window
        if not isinstance(window, SlidingWindow | TumblingWindow) or window.time != "event":
            raise ValueError("window: soe needs event time, and type sliding or tumbling")
        if to_ms(window.size) % 1000:
            raise ValueError("window: size must be whole seconds, for the grid has one cell each")
        return self
