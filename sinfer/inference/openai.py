"""What the clients of OpenAI-compatible servers share: address, model and key."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from sinfer.config import ConfigModel
from sinfer.inference.http import HttpConfig, HttpInferenceClient
from sinfer.units import Secret


class OpenAiConfig(HttpConfig):
    """Settings of OpenAI-compatible servers (OpenAI, vLLM, llama.cpp, Ollama, TEI and others)."""

    url: str = "https://api.openai.com/v1"
    """The base that ``/embeddings`` and ``/chat/completions`` are below of."""
    model: str = Field(min_length=1)
    """The model as the server knows it."""
    api_key: Secret | None = None
    """Sent as ``Authorization: Bearer``; may refer to the environment: ``${OPENAI_API_KEY}``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further fields of each request, such as ``temperature`` or ``dimensions``."""


class OpenAiClient(HttpInferenceClient):
    """Calls one path below the base with the model's name and the task's options."""

    Config: ClassVar[type[ConfigModel]] = OpenAiConfig

    def __init__(self, config: OpenAiConfig, path: str) -> None:
        key = config.api_key
        headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        super().__init__(config, headers)
        self._endpoint = self.http.endpoint("POST", path)
        self._fields = {"model": config.model, **config.options}
