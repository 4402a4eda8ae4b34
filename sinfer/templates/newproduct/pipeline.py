"""What happens to messages: read them, ask the model, make results of its answer."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from sinfer import InferPipeline, Message, Result, Window

from .task import NewProductTask


class Reading(BaseModel):
    """One message, read and checked. What does not fit here becomes a dead letter."""

    sensor: str
    value: float
    time: float
    """Seconds since the epoch."""


class NewProductPipeline(InferPipeline[NewProductTask, Reading]):
    """One call to the model for each window, one result for each message."""

    def preprocess(self, message: Message) -> Reading | None:
        # None would leave the message out; an exception makes it a dead letter.
        return Reading.model_validate_json(message.data)

    def key(self, item: Reading) -> str:
        return item.sensor  # each sensor has windows of its own

    def event_time(self, item: Reading) -> float:
        return item.time  # counts in tasks whose window says `time: event`

    def build_request(self, window: Window[Reading]) -> list[float]:
        return [reading.value for reading in window]

    def build_results(self, window: Window[Reading], response: Any) -> list[Result]:
        return [
            Result(
                {
                    "sensor": item.sensor,
                    "prediction": value,
                    "alarm": value > self.task.limit,
                }
            )
            for item, value in zip(window, response, strict=True)
        ]
