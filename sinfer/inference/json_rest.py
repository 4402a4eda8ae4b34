"""Any REST model: JSON in, JSON out."""

from __future__ import annotations

from typing import Any, Literal

from sinfer.inference.http import HttpConfig, HttpInferenceClient


class JsonConfig(HttpConfig):
    """Settings of the ``json`` client; ``url`` is the whole address that is called."""

    type: Literal["json"] = "json"
    method: Literal["POST", "PUT", "PATCH"] = "POST"
    """How the model is called."""


class JsonClient(HttpInferenceClient):
    """Sends the request as a JSON body and returns the JSON of the answer.

    A request is anything that JSON has a form for, pydantic models and NumPy arrays included.
    """

    type = "json"
    Config = JsonConfig

    def __init__(self, config: JsonConfig) -> None:
        super().__init__(config)
        self._endpoint = self.http.endpoint(config.method)

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        answer, _ = await self.http.request_json(
            self._endpoint, request, idempotency_key=idempotency_key
        )
        return answer
