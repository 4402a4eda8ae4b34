"""What the ingestor of a partition does for its dead letters: keep the task's caps, send copies."""

from __future__ import annotations

import asyncio
import logging

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from sinfer.errors import StoreFullError, UnavailableError
from sinfer.ingest.subjects import overlap
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.header_value import header_value
from sinfer.units import to_ms
from sinfer.windows.dead_letter_store import DeadLetterStore, StoredLetter
from sinfer.windows.ids import Scope
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.store import Store

_log = logging.getLogger(__name__)

PERIOD_S = 1.0
_TIMEOUT_S = 5.0
_AT_ONCE = 32
_WARN_AT = 0.8


class DeadLetterCare:
    """Looks after the dead letters of one partition while it is ingested.

    Args:
        store: the window store.
        client: NATS, for copies.
        scope: the partition.
        task: says what the caps are and where copies go.
    """

    def __init__(self, store: Store, client: Client, scope: Scope, task: InferTaskConfig) -> None:
        self._store = store
        self._client = client
        self._scope = scope
        self._subject = task.dead_letter_subject
        self._most = task.limits.max_dead_letters
        age = task.limits.dead_letter_age
        self._age_ms = None if age is None else to_ms(age)
        self._letters = DeadLetterStore(store)
        self._warned: set[str] = set()
        self._complaint = ""
        self._stream = task.source.stream
        self._is_checked = False

    @property
    def is_needed(self) -> bool:
        """Whether the task has caps or wants copies."""
        caps = (self._most, self._age_ms, self._subject)
        return any(cap is not None for cap in caps)

    async def run(self) -> None:
        """Look after them until cancelled. An outage only delays it."""
        while True:
            try:
                if self._subject is not None:
                    await self._mirror(self._subject)
                await self.keep_caps()
                self._complaint = ""
            except (UnavailableError, StoreFullError, NatsError, APIError, TimeoutError) as error:
                text = f"{error}" or type(error).__name__
                if text != self._complaint:
                    _log.warning("%s: dead letters: %s; trying again", self._scope, text)
                self._complaint = text
            await asyncio.sleep(PERIOD_S)

    # --- caps ---

    async def keep_caps(self) -> int:
        """Remove what is above the caps, and warn before that happens.

        Returns:
            How many dead letters were removed.
        """
        if self._most is None and self._age_ms is None:
            return 0
        now_ms = await self._store.now_ms()
        count = await self._letters.count(self._scope)
        if self._most is not None:
            self._warn(
                "limits.max_dead_letters",
                count >= _WARN_AT * self._most,
                f"{count} of at most {self._most} dead letters; above that the oldest are removed",
            )
        if self._age_ms is not None:
            oldest_ms = await self._letters.oldest_ms(self._scope)
            age_ms = 0 if oldest_ms is None else now_ms - oldest_ms
            self._warn(
                "limits.dead_letter_age",
                age_ms >= _WARN_AT * self._age_ms,
                f"the oldest dead letter is {age_ms // 1000} s old;"
                f" after {self._age_ms // 1000} s it is removed",
            )
        since_ms = None if self._age_ms is None else now_ms - self._age_ms
        upto = "+"
        if self._subject is not None:  # what no copy was sent of stays
            meta = PartitionKeys(self._scope).meta
            copied = await self._store.ask(self._store.redis.hget(meta, "mirrored"))
            if not copied:
                return 0
            upto = copied.decode()
        removed = await self._letters.trim(
            self._scope, most=self._most, since_ms=since_ms, upto=upto
        )
        if removed:
            _log.error(
                "%s: %d dead letters were removed for good (limits.max_dead_letters,"
                " limits.dead_letter_age)", self._scope, removed,
            )  # fmt: skip
        return removed

    def _warn(self, cap: str, is_near: bool, text: str) -> None:
        if is_near and cap not in self._warned:
            _log.warning("%s: %s (%s); redrive or purge them", self._scope, text, cap)
        if is_near:
            self._warned.add(cap)
        else:
            self._warned.discard(cap)

    # --- copies ---

    async def _mirror(self, subject: str) -> None:
        """Publish what was stored since the last copy. Copies may repeat; their ids tell."""
        if not self._is_checked:
            stream = await self._client.jetstream().find_stream_name_by_subject(subject)
            if stream == self._stream and overlap(subject, self._scope.partition):
                _log.error(
                    "%s: no copies of dead letters are sent: the task reads dead_letter_subject %s"
                    " itself; choose another subject", self._scope, subject,
                )  # fmt: skip
                self._subject = None
                return
            self._is_checked = True
        meta = PartitionKeys(self._scope).meta
        done = await self._store.ask(self._store.redis.hget(meta, "mirrored"))
        batch: list[StoredLetter] = []
        async for stored in self._letters.after(self._scope, f"({done.decode()}" if done else "-"):
            batch.append(stored)
            if len(batch) >= _AT_ONCE:
                await self._publish(subject, batch)
                batch = []
        if batch:
            await self._publish(subject, batch)

    async def _publish(self, subject: str, batch: list[StoredLetter]) -> None:
        jetstream = self._client.jetstream()
        await asyncio.gather(
            *(
                jetstream.publish(
                    subject, s.letter.message.data, timeout=_TIMEOUT_S, headers=_headers(s)
                )
                for s in batch
            )
        )
        meta = PartitionKeys(self._scope).meta
        await self._store.ask(self._store.redis.hset(meta, "mirrored", batch[-1].entry))


def _headers(stored: StoredLetter) -> dict[str, str]:
    """The message's own headers, less those that NATS acts on, and what became of it."""
    letter = stored.letter
    own = {
        name: header_value(value)
        for name, value in (letter.message.headers or {}).items()
        if not name.lower().startswith("nats-")
    }
    told = {
        "Product": stored.scope.product,
        "Task": stored.scope.task,
        "Stage": letter.stage,
        "Error": letter.error,
        "Subject": letter.message.subject,
        "Sequence": str(letter.message.stream_seq),
        "Window": letter.window,
        "Attempts": str(letter.attempts),
    }
    return {
        **own,
        **{f"Sinfer-{name}": header_value(value) for name, value in told.items() if value},
        "Nats-Msg-Id": stored.id,
    }
