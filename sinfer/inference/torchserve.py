"""TorchServe's inference API."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from sinfer.config.units import Version
from sinfer.inference.http import Endpoint, HttpConfig, HttpInferenceClient, path_part


class TorchServeConfig(HttpConfig):
    """Settings of the ``torchserve`` client; ``url`` is the server, such as ``http://ts:8080``."""

    type: Literal["torchserve"] = "torchserve"
    model: str = Field(min_length=1)
    """The model's name."""
    version: Version = ""
    """The default version if not given."""


class TorchServeClient(HttpInferenceClient):
    """Calls ``/predictions/{model}`` with a JSON body and returns the JSON that the handler makes.

    What body and answer hold is up to the model's handler. TorchServe batches HTTP requests by
    itself, so a handler sees the whole window as one entry of its batch.
    """

    type = "torchserve"
    Config = TorchServeConfig

    def __init__(self, config: TorchServeConfig) -> None:
        super().__init__(config)
        path = f"/predictions/{path_part(config.model)}"
        if config.version:
            path += f"/{path_part(config.version)}"
        self._endpoint = self.http.endpoint("POST", path)

    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        answer, _ = await self.http.request_json(
            self._endpoint, request, idempotency_key=idempotency_key
        )
        return answer

    @property
    def harmless(self) -> Endpoint:
        """Of the server, not of the model: the port for predictions tells nothing of those."""
        return self.http.endpoint("GET", "/ping")
