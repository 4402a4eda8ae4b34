"""What the clients of OpenAI-compatible servers share: address, model and key."""

from __future__ import annotations

from typing import Any, ClassVar

import httpx
from pydantic import Field

from sinfer.config.model import ConfigModel
from sinfer.config.secret import Secret
from sinfer.encoding import from_json
from sinfer.inference.http import Endpoint, HttpConfig, HttpInferenceClient
from sinfer.types.check import Checked


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

    @property
    def harmless(self) -> Endpoint:
        return self.http.endpoint("GET", "/models")

    async def check(self) -> list[Checked]:
        [found] = await super().check()
        is_missing = found.verdict == "error" and found.field == "url" and not found.is_silent
        return [found._replace(verdict="warning")] if is_missing else [found]

    @property
    def missing(self) -> str:
        return f"it has no list of models, so whether it has {self.config.model!r} is not known"

    def checked_answer(self, response: httpx.Response) -> list[Checked]:
        try:
            names = [str(model["id"]) for model in from_json(response.content)["data"]]
        except (ValueError, RecursionError, TypeError, LookupError):
            return super().checked_answer(response)
        call, model = self.harmless.call, self.config.model
        if model not in names:
            known = ", ".join(sorted(names)[:10]) or "none"
            return [Checked("warning", f"{call} does not list {model!r} (but {known})", "model")]
        return [Checked("ok", f"{call} lists {model!r}")]
