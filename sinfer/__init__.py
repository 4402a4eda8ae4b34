"""sinfer: streaming inference with NATS JetStream, Redis and Celery.

A name is loaded when it is first asked for, so that commands which need little start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sinfer.errors import ConfigError as ConfigError
    from sinfer.errors import InvalidItemError as InvalidItemError
    from sinfer.errors import SinferError as SinferError
    from sinfer.errors import UnavailableError as UnavailableError
    from sinfer.inference.base import InferenceClient as InferenceClient
    from sinfer.inference.base import InferenceConfig as InferenceConfig
    from sinfer.products.managers import BrokenTask as BrokenTask
    from sinfer.products.managers import StaticTaskManager as StaticTaskManager
    from sinfer.products.managers import TaskManager as TaskManager
    from sinfer.products.nats_kv_tasks import NatsKvTaskManager as NatsKvTaskManager
    from sinfer.products.pipeline import InferPipeline as InferPipeline
    from sinfer.products.product import Product as Product
    from sinfer.products.sql_tasks import SqlTaskManager as SqlTaskManager
    from sinfer.products.task import InferTaskConfig as InferTaskConfig
    from sinfer.products.yaml_tasks import YamlTaskManager as YamlTaskManager
    from sinfer.sinks.base import Sink as Sink
    from sinfer.sinks.base import SinkConfig as SinkConfig
    from sinfer.source.config import JetStreamSource as JetStreamSource
    from sinfer.types.check import Checked as Checked
    from sinfer.types.message import Message as Message
    from sinfer.types.result import Confirmed as Confirmed
    from sinfer.types.result import Result as Result
    from sinfer.types.result import ResultRow as ResultRow
    from sinfer.types.result import WindowResults as WindowResults
    from sinfer.windows.window import Window as Window

_MODULES = {
    "sinfer.types.check": ("Checked",),
    "sinfer.errors": ("ConfigError", "InvalidItemError", "SinferError", "UnavailableError"),
    "sinfer.inference.base": ("InferenceClient", "InferenceConfig"),
    "sinfer.types.message": ("Message",),
    "sinfer.products.managers": ("BrokenTask", "StaticTaskManager", "TaskManager"),
    "sinfer.products.nats_kv_tasks": ("NatsKvTaskManager",),
    "sinfer.products.pipeline": ("InferPipeline",),
    "sinfer.products.product": ("Product",),
    "sinfer.products.sql_tasks": ("SqlTaskManager",),
    "sinfer.products.task": ("InferTaskConfig", "JetStreamSource"),
    "sinfer.products.yaml_tasks": ("YamlTaskManager",),
    "sinfer.types.result": ("Confirmed", "Result", "ResultRow", "WindowResults"),
    "sinfer.sinks.base": ("Sink", "SinkConfig"),
    "sinfer.windows.window": ("Window",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
