"""Embeddings from OpenAI-compatible servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sinfer.inference.http_errors import invalid_response
from sinfer.inference.openai import OpenAiClient, OpenAiConfig


class OpenAiEmbeddingsConfig(OpenAiConfig):
    """Settings of the ``openai_embeddings`` client."""

    type: Literal["openai_embeddings"] = "openai_embeddings"


@dataclass(frozen=True, slots=True)
class EmbeddingsResponse:
    """An answer.

    Attributes:
        embeddings: one list of floats for each input, in the order of the inputs.
        model: the model that the server used.
        usage: tokens, as the server counts them.
        raw: the whole answer.
    """

    embeddings: list[list[float]]
    model: str
    usage: dict[str, Any]
    raw: dict[str, Any]


class OpenAiEmbeddingsClient(OpenAiClient):
    """Calls ``/embeddings`` and returns an ``EmbeddingsResponse``.

    A request is a list of texts, or ``{"input": [...]}`` with any other fields of the API.
    """

    type = "openai_embeddings"
    Config = OpenAiEmbeddingsConfig

    def __init__(self, config: OpenAiEmbeddingsConfig) -> None:
        super().__init__(config, "/embeddings")

    async def infer(self, request: Any, *, idempotency_key: str = "") -> EmbeddingsResponse:
        fields = request if isinstance(request, Mapping) else {"input": request}
        body = {**self._fields, "encoding_format": "float", **fields}
        answer, response = await self.http.request_json(
            self._endpoint, body, idempotency_key=idempotency_key
        )
        count = 1 if isinstance(body.get("input"), str) else len(body.get("input") or ())
        try:
            embeddings = _in_order(answer["data"], count)
        except (TypeError, KeyError, ValueError) as error:
            reason = f"is not {count} embeddings ({type(error).__name__}: {error})"
            raise invalid_response(response, self._endpoint.call, reason) from error
        return EmbeddingsResponse(
            embeddings, answer.get("model") or "", answer.get("usage") or {}, answer
        )


def _in_order(data: list[dict[str, Any]], count: int) -> list[list[float]]:
    by_index = {entry["index"]: entry["embedding"] for entry in data}
    if len(data) != count or by_index.keys() != set(range(count)):
        raise ValueError(f"indices {sorted(by_index)[:5]}… of {len(data)}")
    return [by_index[index] for index in range(count)]
