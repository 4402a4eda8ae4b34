"""Embeddings from OpenAI-compatible servers."""

from __future__ import annotations

import logging
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sinfer.errors import InferenceRejectedError
from sinfer.inference.http_errors import invalid_response
from sinfer.inference.openai.base import OpenAiClient, OpenAiConfig
from sinfer.inference.v2.tensors import unpack_tensor

_log = logging.getLogger(__name__)


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

    def is_by_items(self, of: int) -> bool:
        """Whether there are so many embeddings."""
        return len(self.embeddings) == of

    def part_for(self, first: int, last: int, of: int) -> EmbeddingsResponse | None:
        """The answer to the inputs ``[first, last)`` of ``of``; None where there were others."""
        if not self.is_by_items(of):
            return None
        entries = sorted(self.raw["data"], key=lambda entry: entry.get("index", 0))
        raw = {**self.raw, "data": entries[first:last]}
        return replace(self, embeddings=self.embeddings[first:last], raw=raw)


class OpenAiEmbeddingsClient(OpenAiClient):
    """Calls ``/embeddings`` and returns an ``EmbeddingsResponse``.

    A request is a list of texts, or ``{"input": [...]}`` with any other fields of the API.

    Servers differ, and all of these are taken: embeddings as base64 of little-endian FP32 although
    floats were asked for; entries without ``index``, which are in the order of the inputs, and
    without ``index`` for the first alone, as servers write it that leave out zeros; servers that
    refuse ``encoding_format``, which is left out from then on.
    """

    type = "openai_embeddings"
    Config = OpenAiEmbeddingsConfig

    def __init__(self, config: OpenAiEmbeddingsConfig) -> None:
        super().__init__(config, "/embeddings")
        self._format = {"encoding_format": "float"}

    async def infer(self, request: Any, *, idempotency_key: str = "") -> EmbeddingsResponse:
        fields = request if isinstance(request, Mapping) else {"input": request}
        body = {**self._fields, **fields}
        asked = {**self._format, **body}
        try:
            answer, response = await self.http.request_json(
                self._endpoint, asked, idempotency_key=idempotency_key
            )
        except InferenceRejectedError as error:
            if asked == body or "encoding_format" not in str(error):
                raise
            # Another body needs another key.
            key = idempotency_key and f"{idempotency_key}/plain"
            answer, response = await self.http.request_json(
                self._endpoint, body, idempotency_key=key
            )
            self._format = {}
            _log.info("%s does not know encoding_format; left out now", self._endpoint.call)
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
    if any("index" in entry for entry in data):
        by_index = {entry.get("index", 0): entry["embedding"] for entry in data}
    else:
        by_index = dict(enumerate(entry["embedding"] for entry in data))
    if len(data) != count or by_index.keys() != set(range(count)):
        raise ValueError(f"indices {sorted(by_index)[:5]}… of {len(data)}")
    embeddings = [_floats(by_index[index]) for index in range(count)]
    sizes = {len(embedding) for embedding in embeddings}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"embeddings of {', '.join(map(str, sorted(sizes)))} numbers")
    return embeddings


def _floats(embedding: Any) -> list[float]:
    """An embedding as numbers, whichever of the two encodings of the API it has."""
    if isinstance(embedding, str):
        return unpack_tensor(b64decode(embedding, validate=True), "FP32")
    if not isinstance(embedding, list) or not {*map(type, embedding)} <= {int, float}:
        raise TypeError("an embedding is neither a list of numbers nor base64")
    return embedding
