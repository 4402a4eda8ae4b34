"""What the example product does with its messages: read, ask the model, make results."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from sinfer import InferPipeline, Message, Result, Window
from sinfer.products.example.task import ExampleTask

FEATURES = 16


class Reading(BaseModel):
    """One message, read and checked. What does not fit here becomes a dead letter."""

    id: int
    time: float
    """Seconds since the epoch."""
    features: Annotated[list[float], Field(min_length=FEATURES, max_length=FEATURES)]


class ExamplePipeline(InferPipeline[ExampleTask, Reading]):
    """One call to the model for each window, one result for each message."""

    def preprocess(self, message: Message) -> Reading | None:
        return Reading.model_validate_json(message.data)

    def event_time(self, item: Reading) -> float | None:
        return item.time  # counts only in tasks whose window says `time: event`

    def build_request(self, window: Window[Reading]) -> dict[str, Any]:
        # One tensor for the whole window. The inference client of type v2 puts it into JSON.
        data = [value for reading in window for value in reading.features]
        shape = [len(window), FEATURES]
        return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}

    def build_results(self, window: Window[Reading], response: Any) -> list[Result]:
        values = response.outputs["y"]
        high = self.task.threshold  # the task is at hand everywhere, as `self.task`
        return [
            Result({"id": reading.id, "y": y, "high": y > high})
            for reading, y in zip(window, values, strict=True)
        ]
