"""Tasks in a NATS key-value bucket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import yaml
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamInfo
from nats.js.errors import APIError, NotFoundError

from sinfer.encoding import from_json
from sinfer.errors import UnavailableError
from sinfer.nats.config import JetStreamPart
from sinfer.nats.connection import connect
from sinfer.nats.whereabouts import is_not_enabled, no_jetstream, not_there
from sinfer.products.managers import DEFAULT_REFRESH_S, BrokenTask, Listed, TaskManager
from sinfer.products.task import InferTaskConfig
from sinfer.products.yaml_text import load_yaml

C = TypeVar("C", bound=InferTaskConfig)

_BATCH = 500
_TIMEOUT_S = 5.0


@dataclass(slots=True)
class _Bucket:
    """What one event loop knows of the bucket.

    Attributes:
        created: when the bucket was made: its identity.
        last_seq: of the stream behind it, when it was last read.
        messages: in that stream, at the same time.
        entries: settings or problem of each task, by key.
    """

    connection: Client
    created: object = None
    last_seq: int = 0
    messages: int = 0
    entries: dict[str, Mapping[str, Any] | BrokenTask] = field(default_factory=dict)


class NatsKvTaskManager(TaskManager[C]):
    """Watches a key-value bucket: one key, one task.

    The key is the id of the task, the value its other settings as JSON or YAML. To delete or purge
    a key removes its task. What changes in the bucket is read at the next refresh, and nothing
    else: one request tells whether anything did.

    Args:
        bucket: name of the bucket.
        servers, domain, api_prefix: where JetStream is, as in a task's ``source``.
        refresh: how often to look for changes, in seconds.
    """

    def __init__(
        self,
        bucket: str,
        *,
        servers: Sequence[str] | None = None,
        domain: str = "",
        api_prefix: str = "",
        refresh: float = DEFAULT_REFRESH_S,
    ) -> None:
        self._bucket = bucket
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._where = JetStreamPart.model_validate(
            {"servers": servers and list(servers), "domain": domain, "api_prefix": api_prefix}
        )
        self.refresh = refresh
        self._buckets: WeakKeyDictionary[asyncio.AbstractEventLoop, _Bucket] = WeakKeyDictionary()

    async def list_tasks(self) -> Listed[C]:
        """A task of each key.

        Raises:
            UnavailableError: NATS does not answer, or there is no such bucket.
        """
        bucket = await self._connected()
        if not bucket.connection.is_connected:
            raise UnavailableError(f"bucket {self._bucket!r}: NATS is disconnected")
        try:
            await self._follow(bucket)
        except NotFoundError:
            where, advice = await not_there(bucket.connection, "")
            raise UnavailableError(
                f"bucket {self._bucket!r} does not exist in {where}; make it with `nats kv add"
                f" {self._bucket}`{advice}"
            ) from None
        except APIError as error:
            reason = str(error)
            if is_not_enabled(error):
                reason = await no_jetstream(bucket.connection, "")
            raise UnavailableError(f"bucket {self._bucket!r} cannot be read: {reason}") from error
        except (NatsError, TimeoutError) as error:
            raise UnavailableError(
                f"bucket {self._bucket!r} cannot be read: {error or type(error).__name__}"
            ) from error
        return list(bucket.entries.values())

    async def aclose(self) -> None:
        bucket = self._buckets.pop(asyncio.get_running_loop(), None)
        if bucket is not None:
            await bucket.connection.close()

    async def _connected(self) -> _Bucket:
        loop = asyncio.get_running_loop()
        bucket = self._buckets.get(loop)
        if bucket is None or bucket.connection.is_closed:
            place = self._where.place
            connection = await connect(place, name=f"sinfer-tasks-{self._bucket}")
            bucket = self._buckets[loop] = _Bucket(connection)
        return bucket

    # --- following the stream behind the bucket ---

    async def _follow(self, bucket: _Bucket) -> None:
        """Read what is new; all of it, when the bucket was made again or lost keys silently."""
        jetstream = bucket.connection.jetstream(timeout=_TIMEOUT_S)
        info = await jetstream.stream_info(self._stream)
        state = info.state
        is_same = info.created == bucket.created and state.last_seq >= bucket.last_seq
        if is_same and (state.last_seq, state.messages) == (bucket.last_seq, bucket.messages):
            return
        # Keys may run out by the bucket's ttl, and only the number of messages tells.
        anew = not is_same or state.last_seq == bucket.last_seq
        entries = {} if anew else dict(bucket.entries)
        for message in await self._read(jetstream, info, 0 if anew else bucket.last_seq):
            key = message.subject.removeprefix(self._prefix)
            if _is_removal(message):
                entries.pop(key, None)
            else:
                entries[key] = _entry(key, message.data)
        bucket.created, bucket.entries = info.created, entries
        bucket.last_seq, bucket.messages = state.last_seq, state.messages

    async def _read(self, jetstream: JetStreamContext, info: StreamInfo, behind: int) -> list[Msg]:
        """The last message of each key, or with ``behind`` all that came after it."""
        config = ConsumerConfig(
            ack_policy=AckPolicy.NONE,
            deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
            inactive_threshold=60,
            mem_storage=True,
        )
        if behind:
            config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
            config.opt_start_seq = behind + 1
        subscription = await jetstream.pull_subscribe(
            f"{self._prefix}>", stream=self._stream, config=config
        )
        messages: list[Msg] = []
        try:
            consumer = await subscription.consumer_info()
            left = consumer.num_pending or 0
            while left:
                found = await subscription.fetch(min(left, _BATCH), timeout=_TIMEOUT_S)
                messages += found
                left = found[-1].metadata.num_pending
            await jetstream.delete_consumer(self._stream, consumer.name)
        finally:
            await subscription.unsubscribe()
        return messages


def _is_removal(message: Msg) -> bool:
    headers = message.headers or {}
    return headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers


def _entry(key: str, value: bytes) -> Mapping[str, Any] | BrokenTask:
    try:
        found = from_json(value) if value[:1] == b"{" else load_yaml(value)
    except (ValueError, yaml.YAMLError) as error:
        problem = f"the value is not understood: {' '.join(str(error).split())}"
        return BrokenTask(f"key {key!r}", problem, key)
    if not isinstance(found, dict):
        return BrokenTask(f"key {key!r}", "the value must be a mapping of settings", key)
    if found.setdefault("id", key) != key:
        problem = f"id: must be {key!r} as the key is, or left out (got {found['id']!r})"
        return BrokenTask(f"key {key!r}", problem, key)
    return found
