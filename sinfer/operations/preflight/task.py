"""The checks of one task: its pipeline, its source, its model, its sinks."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from sinfer.errors import ConfigError, HookError, InferenceError, SinferError
from sinfer.hooks.call import Hook
from sinfer.inference.base import InferenceClient
from sinfer.inference.v2.config import DescribedModel
from sinfer.ingest.isolation import look_at
from sinfer.operations.preflight.findings import Finding
from sinfer.operations.preflight.probes import TIMEOUT, Probes, bounded
from sinfer.operations.preflight.readers import Readers
from sinfer.operations.preflight.request import differences, names_inputs
from sinfer.operations.preflight.source import NatsConnections, SourceCheck
from sinfer.operations.products import known_scopes
from sinfer.products.pipeline import InferPipeline
from sinfer.products.product import Product
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.base import Sink, SinkConfig
from sinfer.sinks.jetstream.check import checked_subject
from sinfer.store.connection import Store
from sinfer.store.partition.snapshot import snapshot
from sinfer.store.partition.waiting_versions import named, told_versions, waiting_versions
from sinfer.types.check import Checked, Verdict
from sinfer.windows.shared_window import SharedWindow
from sinfer.windows.window import Window

_LONGEST_S = 3 * TIMEOUT.total_seconds()
"""A client or sink of a product has so long to answer."""

_MOST_LOOKED_AT = 20
"""Of so many tasks of a product a message is tried, each in a process of its own."""


@dataclass(slots=True)
class Shared:
    """What the checks of all tasks share.

    Attributes:
        probes: what models and sinks were asked.
        connections: to NATS.
        store: the window store; None where nobody asks it.
        readers: the tasks that may read the same consumers.
        looked_at: how many messages were tried, by product.
        trying: room for trying one.
    """

    probes: Probes = field(default_factory=Probes)
    connections: NatsConnections = field(default_factory=NatsConnections)
    store: Store | None = None
    readers: Readers = field(default_factory=Readers)
    looked_at: dict[str, int] = field(default_factory=dict)
    trying: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))


@dataclass(frozen=True, slots=True)
class _Model:
    """What a model was found to be."""

    checked: list[Checked]
    metadata: dict[str, Any] | None = None


class TaskCheck:
    """The checks of one task; they change nothing anywhere.

    Args:
        shared: with the checks of other tasks.
        product: the product.
        task: the task.
    """

    def __init__(self, shared: Shared, product: Product, task: InferTaskConfig) -> None:
        self._shared = shared
        self._product = product
        self._task = task
        self.name = f"{product.name}/{task.id}"
        self._sample: Window[Any] | None = None
        self._has_more_messages = False

    async def run(self) -> list[Finding]:
        """The pipeline, the source, the model and the sinks, in this order."""
        try:
            pipeline = self._product.make_pipeline(self._task)
        except ConfigError as error:
            return [Finding(self.name, "error", str(error))]
        parts = await asyncio.gather(
            self._all(self._check_windows(pipeline)),
            self._all(self._check_source(pipeline)),
            self._model(),
            self._all(self._check_sinks()),
        )
        windows, source, model, sinks = parts
        asked = [self._told("model", checked, "inference") for checked in model.checked]
        request = await self._all(self._check_request(pipeline, model.metadata))
        sharing = await self._all(self._check_sharing(pipeline))
        return [*windows, *source, *asked, *request, *sharing, *sinks]

    @staticmethod
    async def _all(findings: AsyncIterator[Finding]) -> list[Finding]:
        return [finding async for finding in findings]

    def _finding(self, part: str, verdict: Verdict, text: str) -> Finding:
        return Finding(f"{self.name} {part}", verdict, text)

    def _told(self, part: str, checked: Checked, where: str = "") -> Finding:
        """A finding of a part, with its field where it is not well."""
        field = ".".join(filter(None, (where, checked.field))) if checked.field else ""
        text = checked.text if checked.verdict == "ok" or not field else f"{field}: {checked.text}"
        return self._finding(part, checked.verdict, text)

    async def _check_windows(self, pipeline: InferPipeline[Any, Any]) -> AsyncIterator[Finding]:
        if risk := held_back(self._task):
            yield self._finding("window", "warning", risk)
        if self._task.source.ack == "done" and self._task.dead_letter_subject is None:
            text = "they are in Redis only, where FLUSHALL takes them; set dead_letter_subject"
            yield self._finding("dead letters", "warning", text)
        if text := await self._other_versions(pipeline.version):
            yield self._finding("window", "warning", text)

    async def _other_versions(self, version: str) -> str:
        """What is to be said of windows that other versions of the pipeline opened; empty where
        there are none, or the store cannot be asked: that is told elsewhere."""
        store, waiting = self._shared.store, Counter[str]()
        if store is None:
            return ""
        try:
            for scope in await known_scopes(store, self._product.name, self._task.id):
                if (await snapshot(store, scope)).version is not None or version:
                    waiting.update(await waiting_versions(store, scope))
        except SinferError:
            return ""
        others = told_versions(dict(waiting), version)
        return others and (
            f"windows wait that other code opened: {others}; this code, {named(version)}, will"
            " process them"
        )

    # --- source ---

    async def _check_source(self, pipeline: InferPipeline[Any, Any]) -> AsyncIterator[Finding]:
        source = SourceCheck(
            self._shared.connections, self._shared.readers, self._product.name, self._task
        )
        async for checked in source.run():
            yield self._told("source", checked)
        for subject, message in source.last.items():
            if not self._may_look():
                return
            now_ms = message.timestamp_ns // 1_000_000
            name = f"{self.name}/{subject}"
            async with self._shared.trying:
                prepared = await look_at(pipeline, message, now_ms, name=name)
            where = f"the last message of {subject} ({message.stream_seq})"
            if prepared.entries:
                [entry] = prepared.entries
                self._sample = Window(
                    [entry.item], [message], id="check", task=self._task.id, key=entry.key
                )
                yield self._finding("pipeline", "ok", f"preprocess takes {where}")
                return
            if prepared.dead:
                text = f"{where} would be a dead letter: {prepared.dead[0].error}"
                yield self._finding("pipeline", "warning", text)

    def _may_look(self) -> bool:
        """Trying a message takes a process, so that is done for some tasks only."""
        looked_at = self._shared.looked_at
        count = looked_at.get(self._product.name, 0)
        self._has_more_messages = count >= _MOST_LOOKED_AT
        looked_at[self._product.name] = count + 1
        return not self._has_more_messages

    # --- model ---

    async def _model(self) -> _Model:
        config = bounded(self._task.inference)
        found: _Model = await self._shared.probes.once(config, lambda: self._ask_model(config))
        return found

    async def _ask_model(self, config: Any) -> _Model:
        try:
            client = InferenceClient.make(config, "its inference client")
        except ConfigError as error:
            return _Model([Checked("error", str(error))])
        metadata: dict[str, Any] | None = None

        async def ask() -> list[Checked]:
            nonlocal metadata
            found: list[Checked] = await Hook("inference", "check", client.check).wait()
            if isinstance(client, DescribedModel) and all(c.verdict == "ok" for c in found):
                metadata = await client.metadata()
            return found

        try:
            found = await self._asked(client.endpoint, config.type, ask)
        finally:
            await _close("inference", client)
        return _Model(found or [Checked("ok", f"{config.type} is ready")], metadata)

    async def _check_request(
        self, pipeline: InferPipeline[Any, Any], metadata: dict[str, Any] | None
    ) -> AsyncIterator[Finding]:
        if metadata is None:
            return
        if not names_inputs(metadata):
            text = "not compared: the model's metadata name no inputs"
            yield self._finding("request", "warning", text)
            return
        if self._sample is None:
            text = "not compared: there is no message to make a request of"
            if self._has_more_messages:
                text = (
                    f"not compared: that was done for {_MOST_LOOKED_AT} tasks of the product;"
                    f" `sinfer check --task {self._task.id}` does it for this one"
                )
            yield self._finding("request", "warning", text)
            return
        try:
            build = Hook("request", "build_request", pipeline.build_request)
            request = await build.wait(self._sample)
        except HookError as error:
            yield self._finding("request", "error", str(error))
            return
        problems = differences(request, metadata)
        for problem in problems:
            yield self._finding("request", "error", problem)
        if not problems:
            yield self._finding("request", "ok", "its inputs fit the model's metadata")

    async def _check_sharing(self, pipeline: InferPipeline[Any, Any]) -> AsyncIterator[Finding]:
        """Whether a request can be built of the items of several windows."""
        if self._task.inference.share_calls is None:
            return
        if self._sample is None:
            text = "inference.share_calls: not tried, for want of a message"
            yield self._finding("request", "warning", text)
            return
        build = Hook("request", "build_request", pipeline.build_request)
        try:
            await build.wait(SharedWindow.of([self._sample, self._sample]))
        except HookError as error:
            yield self._finding("request", "error", str(error))
            return
        yield self._finding("request", "ok", "it can be built of the items of several windows")

    # --- sinks ---

    async def _check_sinks(self) -> AsyncIterator[Finding]:
        """Sinks are asked, not written to: nobody asked for results."""
        task = self._task
        sinks = [
            (f"sink {name}", f"sinks[{place}]", config)
            for place, (name, config) in enumerate(zip(task.sink_names(), task.sinks, strict=True))
        ]
        if task.fallback is not None:
            sinks.append(("fallback", "fallback", task.fallback))
        answers = await asyncio.gather(*(self._sink(config) for _, _, config in sinks))
        for (part, where, _), found in zip(sinks, answers, strict=True):
            for checked in found:
                yield self._told(part, checked, where)
        if task.dead_letter_subject is not None:
            place = task.source.place
            subject = task.dead_letter_subject
            for checked in await checked_subject(place, subject, None, TIMEOUT.total_seconds()):
                field = "dead_letter_subject" if checked.field == "subject" else "source.servers"
                yield self._told("dead letters", checked._replace(field=field))

    async def _sink(self, config: SinkConfig) -> list[Checked]:
        alike = bounded(config).model_copy(update={"name": ""})
        found: list[Checked] = await self._shared.probes.once(alike, lambda: self._ask_sink(alike))
        return found

    async def _ask_sink(self, config: SinkConfig) -> list[Checked]:
        try:
            sink = Sink.make(config, "the sink")
        except SinferError as error:
            return [Checked("error", str(error))]

        async def ask() -> list[Checked]:
            found: list[Checked] = await Hook("sink", "check", sink.check).wait()
            return found

        try:
            found = await self._asked(sink.server, config.type, ask)
        finally:
            await _close("sink", sink)
        return found or [Checked("ok", "its settings are valid; it cannot be asked")]

    async def _asked(
        self, server: str, kind: str, ask: Callable[[], Awaitable[list[Checked]]]
    ) -> list[Checked]:
        """What a server is found to be; one without an address goes by its kind."""
        try:
            async with asyncio.timeout(_LONGEST_S):
                found: list[Checked] = await self._shared.probes.ask(server, ask)
                return found
        except TimeoutError:
            return [Checked("unreachable", f"{server or kind}: no answer in time")]
        except (HookError, InferenceError) as error:
            return [Checked("error", str(error))]


async def _close(stage: Any, part: Any) -> None:
    try:
        await Hook(stage, "aclose", part.aclose).wait()
    except HookError:  # nobody needs it any more
        return


def held_back(task: InferTaskConfig) -> str:
    """What may hold a task's windows back forever, and the remedy; empty when nothing may."""
    subjects = task.source.partition_subjects
    if task.window.time != "event" or len(subjects) == 1 or task.window.idle is not None:
        return ""
    return (
        f"its windows wait for the watermarks of all {len(subjects)} partitions, so one without"
        " messages holds all of them back for ever; set window.idle, such as 5s"
    )
