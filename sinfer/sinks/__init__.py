"""Sinks, one file each. Importing this package makes them known to task configurations."""

from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.http import HttpSink
from sinfer.sinks.jetstream import JetStreamSink
from sinfer.sinks.jsonl import JsonlSink
from sinfer.sinks.log import LogSink
from sinfer.sinks.redis_stream import RedisStreamSink
from sinfer.sinks.sql import SqlSink

__all__ = [
    "HttpSink",
    "JetStreamSink",
    "JsonlSink",
    "LogSink",
    "RedisStreamSink",
    "Sink",
    "SinkConfig",
    "SqlSink",
]
