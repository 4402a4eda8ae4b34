"""Chat completions from OpenAI-compatible servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sinfer.errors import InferenceMisconfiguredError
from sinfer.inference.http_errors import invalid_response
from sinfer.inference.openai.base import OpenAiClient, OpenAiConfig


class OpenAiChatConfig(OpenAiConfig):
    """Settings of the ``openai_chat`` client."""

    type: Literal["openai_chat"] = "openai_chat"


@dataclass(frozen=True, slots=True)
class ChatResponse:
    """An answer.

    Attributes:
        text: what the assistant says; empty where it calls tools instead.
        message: the assistant's whole message, tool calls included.
        finish_reason: such as ``"stop"`` or ``"length"``.
        model: the model that the server used.
        usage: tokens, as the server counts them.
        raw: the whole answer, with further choices if they were asked for.
    """

    text: str
    message: dict[str, Any]
    finish_reason: str
    model: str
    usage: dict[str, Any]
    raw: dict[str, Any]


class OpenAiChatClient(OpenAiClient):
    """Calls ``/chat/completions`` and returns a ``ChatResponse``.

    A request is a list of messages, or ``{"messages": [...]}`` with any other fields of the API
    except ``stream``. One request is one conversation: a pipeline puts its window into one prompt
    (``results_per = "window"``), or the task sets ``max_batch: 1`` to ask for each item.
    """

    type = "openai_chat"
    Config = OpenAiChatConfig

    def __init__(self, config: OpenAiChatConfig) -> None:
        super().__init__(config, "/chat/completions")

    async def infer(self, request: Any, *, idempotency_key: str = "") -> ChatResponse:
        fields = request if isinstance(request, Mapping) else {"messages": request}
        body = {**self._fields, **fields}
        if body.get("stream"):
            raise InferenceMisconfiguredError("openai_chat does not stream; remove 'stream'")
        answer, response = await self.http.request_json(
            self._endpoint, body, idempotency_key=idempotency_key
        )
        try:
            choice = answer["choices"][0]
            message = choice["message"]
            text = message.get("content") or ""
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise invalid_response(response, self._endpoint.call, "has no choice") from error
        return ChatResponse(
            text=text,
            message=message,
            finish_reason=choice.get("finish_reason") or "",
            model=answer.get("model") or "",
            usage=answer.get("usage") or {},
            raw=answer,
        )
