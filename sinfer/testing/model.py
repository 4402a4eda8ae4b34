"""A model that answers as a test tells it to."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from sinfer.inference.base import InferenceClient, InferenceConfig
from sinfer.inference.v2.messages import V2Response

Answer = Callable[[Any], Any]


class FakeModel(InferenceClient):
    """Takes the place of a task's model. It answers at once, and fails when it is told to.

    Args:
        answer: makes the response to a request; what the task's real client would return. May be
            ``async def``. A value that is no function is the response to every request.

    Attributes:
        answer: as given; change it whenever you like.
        requests: what it was asked, in order.
    """

    def __init__(self, answer: Answer | Any = None) -> None:
        super().__init__(InferenceConfig(type="fake"))
        self.answer = answer
        self.requests: list[Any] = []
        self._failures: deque[Exception] = deque()

    def fail(self, *errors: Exception) -> None:
        """Fail the next calls, one error each: those of ``sinfer.errors`` say what happens then."""
        self._failures.extend(errors)

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        self.requests.append(request)
        if self._failures:
            raise self._failures.popleft()
        if not callable(self.answer):
            return self.answer
        response = self.answer(request)
        return await response if inspect.isawaitable(response) else response


def v2_response(**outputs: Any) -> V2Response:
    """An answer as the clients of type ``v2`` return it: ``v2_response(y=[1.0, 2.0])``."""
    return V2Response(
        outputs=dict(outputs),
        shapes={name: _shape(values) for name, values in outputs.items()},
        datatypes=dict.fromkeys(outputs, "FP32"),
        model_name="fake",
        model_version="1",
        id="",
        raw={},
    )


def v2_inputs(request: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The data of each input of a request for a ``v2`` client, by name."""
    return {tensor["name"]: list(tensor["data"]) for tensor in request["inputs"]}


def _shape(values: Any) -> list[int]:
    shape = []
    while isinstance(values, list):
        shape.append(len(values))
        values = values[0] if values else None
    return shape
