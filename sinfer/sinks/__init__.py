"""Sinks, one file each. Importing this package makes them known to task configurations."""

from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.http.sink import HttpSink
from sinfer.sinks.jetstream.sink import JetStreamSink
from sinfer.sinks.jsonl import JsonlSink
from sinfer.sinks.log import LogSink
from sinfer.sinks.redis_stream.sink import RedisStreamSink
from sinfer.sinks.sql.sink import SqlSink

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
