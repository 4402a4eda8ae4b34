"""TensorFlow Serving's REST API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import httpx
from pydantic import Field, model_validator

from sinfer.config.units import Version
from sinfer.encoding import from_json
from sinfer.inference.http import Endpoint, HttpConfig, HttpInferenceClient, path_part
from sinfer.inference.http_errors import invalid_response
from sinfer.types.check import Checked


class TfServingConfig(HttpConfig):
    """Settings of the ``tfserving`` client; ``url`` is the server, such as ``http://tf:8501``."""

    type: Literal["tfserving"] = "tfserving"
    model: str = Field(min_length=1)
    """The model's name."""
    version: Version = ""
    """The latest by default."""
    label: str = ""
    """A version label instead of a version."""
    signature: str = ""
    """``signature_name``; the model's default if not given."""

    @model_validator(mode="after")
    def _one_version(self) -> Self:
        if self.version and self.label:
            raise ValueError("give either version or label, not both")
        return self


class TfServingClient(HttpInferenceClient):
    """Calls ``/v1/models/{model}:predict`` and returns the list or mapping of its predictions.

    A request is a list of instances, ``{"instances": [...]}`` (row format: the answer is a list of
    as many predictions) or ``{"inputs": ...}`` (columnar: the answer is what stands under
    ``"outputs"``).
    """

    type = "tfserving"
    Config = TfServingConfig

    def __init__(self, config: TfServingConfig) -> None:
        super().__init__(config)
        path = f"/v1/models/{path_part(config.model)}"
        if config.version:
            path += f"/versions/{path_part(config.version)}"
        elif config.label:
            path += f"/labels/{path_part(config.label)}"
        self._endpoint = self.http.endpoint("POST", f"{path}:predict")
        self._status = self.http.endpoint("GET", path)

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        body = dict(request) if isinstance(request, Mapping) else {"instances": request}
        if self.config.signature:
            body.setdefault("signature_name", self.config.signature)
        answer, response = await self.http.request_json(
            self._endpoint, body, idempotency_key=idempotency_key
        )
        by_row = "instances" in body
        name = "predictions" if by_row else "outputs"
        if not isinstance(answer, dict) or name not in answer:
            raise invalid_response(response, self._endpoint.call, f"has no {name!r}")
        predictions = answer[name]
        if by_row and (
            not isinstance(predictions, list) or len(predictions) != len(body["instances"])
        ):
            raise invalid_response(
                response, self._endpoint.call, f"is not {len(body['instances'])} predictions"
            )
        return predictions

    @property
    def missing(self) -> str:
        model = f"model {self.config.model!r}"
        return f"it has no {model}, or no such version or label; correct them, or load it"

    @property
    def harmless(self) -> Endpoint:
        return self._status

    def checked_answer(self, response: httpx.Response) -> list[Checked]:
        try:
            versions = from_json(response.content)["model_version_status"]
            states = {str(version["state"]) for version in versions}
        except (ValueError, RecursionError, TypeError, LookupError):
            return super().checked_answer(response)
        model = f"model {self.config.model!r}"
        if "AVAILABLE" not in states:
            told = ", ".join(sorted(states)) or "it has no version"
            return [Checked("unreachable", f"{self._status.call}: {model} is not ready: {told}")]
        return [Checked("ok", f"{self._status.call}: {model} is available")]
