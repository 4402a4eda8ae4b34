"""sinfer: streaming inference with NATS JetStream, Redis and Celery."""

from sinfer.errors import ConfigError, InvalidItemError, SinferError
from sinfer.inference.base import InferenceClient, InferenceConfig
from sinfer.messages import Message
from sinfer.products.managers import StaticTaskManager, TaskManager
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig, JetStreamSource
from sinfer.results import Result, ResultRow, WindowResults
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.windows.window import Window

__all__ = [
    "ConfigError",
    "InferPipeline",
    "InferTaskConfig",
    "InferenceClient",
    "InferenceConfig",
    "InvalidItemError",
    "JetStreamSource",
    "Message",
    "Product",
    "Result",
    "ResultRow",
    "SinferError",
    "Sink",
    "SinkConfig",
    "StaticTaskManager",
    "TaskManager",
    "Window",
    "WindowResults",
]
