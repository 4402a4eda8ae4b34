"""Settings of the Open Inference Protocol's clients, and what both can be asked."""

from __future__ import annotations

from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import Field, field_validator

from sinfer.config.units import Version
from sinfer.inference.http import HttpConfig


class V2Config(HttpConfig):
    """Settings of the ``v2`` client; ``url`` is the server, such as ``http://triton:8000``."""

    type: Literal["v2"] = "v2"
    model: str = Field(min_length=1)
    """The model's name."""
    version: Version = ""
    """The server's choice by default."""
    transport: Literal["http", "grpc"] = "http"
    """``grpc`` calls the host and port of ``url``, tensors as bytes both ways; ``https://`` stands
    for TLS. It needs ``pip install 'sinfer[grpc]'``."""
    binary: bool | Literal["auto"] = "auto"
    """Send and ask for tensors as bytes behind the JSON (the binary tensor data extension):
    ``auto`` does so where the server's metadata list that. Over gRPC they always are bytes."""

    @field_validator("url")
    @classmethod
    def _base(cls, value: str) -> str:
        base = value.rstrip("/").removesuffix("/v2")
        if "/v2/models/" in base:
            raise ValueError("give the server alone; the path is made of model and version")
        return base


@runtime_checkable
class DescribedModel(Protocol):
    """A client that can ask what its model takes, and whether it is ready."""

    config: Any

    @property
    def endpoint(self) -> str:
        """The server."""

    async def metadata(self) -> dict[str, Any]:
        """The model's metadata: name, versions, platform, inputs, outputs."""

    async def ready(self) -> bool:
        """Whether the server says that the model is ready."""
