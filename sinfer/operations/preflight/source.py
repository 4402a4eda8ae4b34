"""Whether a task's source could be read: the stream is there, and the user may do what it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import nats.errors

from sinfer.config.jetstream_place import NatsPlace
from sinfer.errors import ConfigError, SinferError, SourceError, UnavailableError
from sinfer.ingest.ack_budget import check_budget
from sinfer.nats.jetstream_api import JetStreamApi
from sinfer.nats.rights import Rights
from sinfer.nats.stream_messages import StreamMessages
from sinfer.nats.subjects import EVERYTHING, consumer_name
from sinfer.operations.preflight.findings import verdict_of
from sinfer.operations.preflight.readers import Readers
from sinfer.products.task import InferTaskConfig
from sinfer.source.choice import choose_source, durable_name
from sinfer.source.consumer_check import risks
from sinfer.source.source_partition import SourcePartition
from sinfer.types.check import Checked, Verdict
from sinfer.types.message import Message
from sinfer.windows.ids import Scope

_BEGINS = "00000000"
"""As a consumer's name ends that is made for one incarnation of a reader."""


class NatsConnections:
    """One connection for all tasks that read from the same place."""

    def __init__(self) -> None:
        self._connecting: dict[NatsPlace, asyncio.Task[Rights]] = {}

    async def to(self, place: NatsPlace) -> Rights:
        """The connection; raises as ``sinfer.nats.connection.connect``, each time the same."""
        if place not in self._connecting:
            self._connecting[place] = asyncio.create_task(Rights.connect(place))
        return await self._connecting[place]

    async def aclose(self) -> None:
        """Close them all."""
        for connected in await asyncio.gather(*self._connecting.values(), return_exceptions=True):
            if isinstance(connected, Rights):
                await connected.aclose()


class SourceCheck:
    """The checks of one task's source.

    Args:
        connections: to NATS.
        readers: the tasks that may read the same consumers.
        product: name of the task's product.
        task: the task.

    Attributes:
        last: the last message of each partition that has one, by its subject.
    """

    def __init__(
        self, connections: NatsConnections, readers: Readers, product: str, task: InferTaskConfig
    ) -> None:
        self._connections = connections
        self._readers = readers
        self._product = product
        self._task = task
        self._name = f"{product}/{task.id}"
        self.last: dict[str, Message] = {}

    async def run(self) -> AsyncIterator[Checked]:
        """What there is to say, partition by partition."""
        source = self._task.source
        try:
            rights = await self._connections.to(source.place)
        except (ConfigError, UnavailableError) as error:
            yield Checked(verdict_of(error), str(error), "source.servers")
            return
        if rights.deafness:
            yield Checked("error", rights.deafness, "source.servers")
            return
        for subject in source.partition_subjects:
            try:
                async for checked in self._partition(rights, subject):
                    yield checked
            except (SourceError, UnavailableError, nats.errors.Error) as error:
                yield self._failure(rights, error)
        if risk := await self._power_cut(rights):
            yield Checked("warning", risk)

    async def _power_cut(self, rights: Rights) -> str:
        """What a power cut takes of the stream; empty where that is nothing, or cannot be told, as
        is said elsewhere."""
        name = self._task.source.stream
        try:
            config = (await JetStreamApi(rights.client, name).stream_info()).config
        except (SourceError, UnavailableError, nats.errors.Error):
            return ""
        if config.storage == "memory":
            return f"stream {name} is in memory: a restart of its server takes all of it; use file"
        if config.num_replicas > 1:
            return ""
        return (
            f"stream {name} has one replica: a power cut takes what its server has acknowledged and"
            " not written to the disk yet (up to two minutes, unless sync_interval says less), and"
            " while that server is away nothing is read; give it three, or set sync_interval to"
            " always"
        )

    def _failure(self, rights: Rights, error: Exception) -> Checked:
        text = str(error) or type(error).__name__
        verdict: Verdict = "unreachable"
        if isinstance(error, SinferError):
            verdict = verdict_of(error)
        if verdict == "unreachable" and rights.forbidden:
            return Checked("error", f"{rights.forbidden[-1]}; docs/security.md has what it needs")
        return Checked(verdict, text)

    async def _partition(self, rights: Rights, subject: str) -> AsyncIterator[Checked]:
        source = self._task.source
        client, api = rights.client, JetStreamApi(rights.client, source.stream)
        if missing := await rights.missing(self._needed(api, subject)):
            text = f"{subject}: this user may not publish to {', '.join(missing)}"
            yield Checked("error", f"{text}; allow it, as docs/security.md says", "source.stream")
            return
        read = SourcePartition(source, subject, f"{self._name}/{subject}")
        chosen = await choose_source(client, api, read)
        await chosen.aclose()
        scope = Scope(self._product, self._task.id, subject)
        await self._readers.check(scope, source, chosen.terms.consumer)
        yield Checked("ok", f"{subject}: {chosen.terms.text}")
        durable = durable_name(source, subject)
        info = None if durable is None else await api.consumer_info(durable)
        if info is not None:
            yield self._budget(subject, info.config.max_ack_pending)
            for risk in risks(source.stream, info, source.ack):
                yield Checked("warning", risk)
        reading = api.subject_of(f"STREAM.MSG.GET.{source.stream}")
        if await rights.missing([reading]):
            text = f"this user may not publish to {reading}, so the last message is not looked at"
            yield Checked("warning", f"{text}, and `sinfer where` and `rerun` cannot work")
            return
        message = await StreamMessages(client, source.stream).last(subject)
        if message is not None:
            self.last[subject] = message

    def _needed(self, api: JetStreamApi, subject: str) -> list[str]:
        """What ingestors publish to, whichever way they read."""
        source = self._task.source
        stream, name = source.stream, f"{self._name}/{subject}"
        durable = durable_name(source, subject)
        is_durable = durable is not None or source.ack == "done"
        consumer = durable or consumer_name("sinfer", name)
        if not is_durable:
            consumer = consumer_name(name, _BEGINS)
        making = f"CONSUMER.CREATE.{stream}.{consumer}"
        if subject != EVERYTHING:
            making += f".{subject}"
        requests = [
            f"STREAM.INFO.{stream}",
            making,
            f"CONSUMER.INFO.{stream}.{consumer}",
            f"CONSUMER.MSG.NEXT.{stream}.{consumer}",
        ]
        acks = [f"$JS.ACK.{stream}.{consumer}.check"] if is_durable else []
        return [*map(api.subject_of, requests), *acks]

    def _budget(self, subject: str, max_ack_pending: int | None) -> Checked:
        """Whether windows can become full before the consumer stops delivering."""
        try:
            text = check_budget(self._task, max_ack_pending)
        except ConfigError as error:
            return Checked("error", f"{subject}: {error}")
        if not text:
            return Checked("ok", f"{subject}: the consumer sets no limit")
        verdict: Verdict = "warning" if self._task.window.largest is None else "ok"
        return Checked(verdict, f"{subject}: {text}")
