"""Inference clients, one file a protocol. Importing this makes all of them known by their type."""

from sinfer.inference.json_rest import JsonClient
from sinfer.inference.openai.chat import ChatResponse, OpenAiChatClient
from sinfer.inference.openai.embeddings import EmbeddingsResponse, OpenAiEmbeddingsClient
from sinfer.inference.python import PythonClient
from sinfer.inference.tfserving import TfServingClient
from sinfer.inference.torchserve import TorchServeClient
from sinfer.inference.v2.client import V2Client
from sinfer.inference.v2.messages import V2Response

__all__ = [
    "ChatResponse",
    "EmbeddingsResponse",
    "JsonClient",
    "OpenAiChatClient",
    "OpenAiEmbeddingsClient",
    "PythonClient",
    "TfServingClient",
    "TorchServeClient",
    "V2Client",
    "V2Response",
]
