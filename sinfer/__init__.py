"""sinfer: streaming inference with NATS JetStream, Redis and Celery."""

from sinfer.errors import ConfigError, InvalidItemError, SinferError, UnavailableError
from sinfer.inference.base import InferenceClient, InferenceConfig
from sinfer.messages import Message
from sinfer.products.managers import BrokenTask, StaticTaskManager, TaskManager
from sinfer.products.nats_kv_tasks import NatsKvTaskManager
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.sql_tasks import SqlTaskManager
from sinfer.products.task import InferTaskConfig, JetStreamSource
from sinfer.products.yaml_tasks import YamlTaskManager
from sinfer.results import Result, ResultRow, WindowResults
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.windows.window import Window

__all__ = [
    "BrokenTask",
    "ConfigError",
    "InferPipeline",
    "InferTaskConfig",
    "InferenceClient",
    "InferenceConfig",
    "InvalidItemError",
    "JetStreamSource",
    "Message",
    "NatsKvTaskManager",
    "Product",
    "Result",
    "ResultRow",
    "SinferError",
    "Sink",
    "SinkConfig",
    "SqlTaskManager",
    "StaticTaskManager",
    "TaskManager",
    "UnavailableError",
    "Window",
    "WindowResults",
    "YamlTaskManager",
]
