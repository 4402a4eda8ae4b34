"""What the ingestor of a partition does for its dead letters: keep the task's caps, send copies."""

from __future__ import annotations

import asyncio
import logging
import uuid
from contextlib import aclosing

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import PubAck
from nats.js.errors import APIError, NotFoundError

from sinfer.config.units import to_ms
from sinfer.errors import StoreFullError, UnavailableError
from sinfer.logging.troubles import PartitionTroubles
from sinfer.nats.client import is_imported
from sinfer.nats.subjects import overlap
from sinfer.nats.whereabouts import is_not_enabled, no_jetstream, not_there
from sinfer.products.task import InferTaskConfig
from sinfer.sinks.header_value import header_name, header_value
from sinfer.store.connection import Store
from sinfer.store.history.dead_letter_store import TRIM_AT_ONCE, DeadLetterStore, StoredLetter
from sinfer.store.store_time import partition_now_ms
from sinfer.types.result import qualifier
from sinfer.windows.ids import Scope, escape

_log = logging.getLogger(__name__)

PERIOD_S = 1.0
_BUSY_S = 0.05
"""The same while there are more than can be seen to at once."""

_COPIES = "dead letters"
_TIMEOUT_S = 5.0
_AT_ONCE = 32
_ID = "Nats-Msg-Id"
_COMPARED = ("Sinfer-Product", "Sinfer-Task", "Sinfer-Subject", "Sinfer-Sequence")
"""Headers that copies of one message's deaths have in common."""
_WARN_AT = 0.8
_TOO_LARGE = 10054
"""JetStream's error code of a message that is larger than the stream takes."""


class DeadLetterCare:
    """Looks after the dead letters of one partition while it is ingested.

    Args:
        store: the window store.
        client: NATS, for copies.
        scope: the partition.
        task: says what the caps are and where copies go.
        troubles: those of the partition.
    """

    def __init__(
        self,
        store: Store,
        client: Client,
        scope: Scope,
        task: InferTaskConfig,
        troubles: PartitionTroubles,
    ) -> None:
        self._store = store
        self._troubles = troubles
        self._client = client
        self._scope = scope
        self._subject = task.dead_letter_subject
        self._most = task.limits.max_dead_letters
        age = task.limits.dead_letter_age
        self._age_ms = None if age is None else to_ms(age)
        self._most_bytes = task.limits.max_dead_letter_bytes
        self._acks_when_done = task.source.ack == "done"
        self._letters = DeadLetterStore(store)
        self._stream = task.source.stream
        self._is_checked = False

    @property
    def is_needed(self) -> bool:
        """Whether the task has caps or wants copies."""
        caps = (self._most, self._age_ms, self._most_bytes, self._subject)
        return any(cap is not None for cap in caps)

    @property
    def sends_copies(self) -> bool:
        """Whether every dead letter is copied, sooner or later."""
        return self._subject is not None

    async def run(self) -> None:
        """Look after them until cancelled. An outage only delays it."""
        while True:
            pause_s = PERIOD_S
            try:
                is_behind = self._subject is not None and await self._mirror(self._subject)
                if await self.keep_caps() >= TRIM_AT_ONCE or is_behind:
                    pause_s = _BUSY_S
                self._troubles.over(_COPIES, "dead letters are looked after again")
            except (UnavailableError, StoreFullError, NatsError, APIError, TimeoutError) as error:
                text = f"{error}" or type(error).__name__
                if self._acks_when_done and self.sends_copies:
                    text += "; no message is acknowledged before its dead letters are copied"
                self._troubles.tell(_COPIES, f"dead letters: {text}; trying again")
            await asyncio.sleep(pause_s)

    # --- caps ---

    async def keep_caps(self) -> int:
        """Remove what is above the caps, however much that is, and warn before that happens.

        Returns:
            How many dead letters were removed.
        """
        removed = part = await self._trim()
        while part >= TRIM_AT_ONCE:
            part = await self._trim()
            removed += part
        if removed:
            _log.error(
                "%s: %d dead letters were removed for good (limits.max_dead_letters,"
                " limits.max_dead_letter_bytes, limits.dead_letter_age)", self._scope, removed,
            )  # fmt: skip
        return removed

    async def _trim(self) -> int:
        if self._most is None and self._age_ms is None and self._most_bytes is None:
            return 0
        now_ms = await partition_now_ms(self._store, self._scope)
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
        excess_bytes = 0
        if self._most_bytes is not None:
            size = await self._letters.size(self._scope)
            self._warn(
                "limits.max_dead_letter_bytes",
                size >= _WARN_AT * self._most_bytes,
                f"dead letters take {size} of at most {self._most_bytes} bytes; above that the"
                " oldest are removed",
            )
            excess_bytes = size - self._most_bytes
        since_ms = None if self._age_ms is None else now_ms - self._age_ms
        upto = "+"
        if self._subject is not None:  # what no copy was sent of stays
            upto = await self._letters.copied(self._scope)
            if not upto:
                return 0
        return await self._letters.trim(
            self._scope,
            most=self._most,
            since_ms=since_ms,
            excess_bytes=excess_bytes,
            upto=upto,
        )

    def _warn(self, cap: str, is_near: bool, text: str) -> None:
        if is_near:
            self._troubles.tell(cap, f"{text} ({cap}); redrive or purge them", once=True)
        else:
            self._troubles.over(cap)

    # --- copies ---

    async def _mirror(self, subject: str) -> bool:
        """Publish what was stored since the last copy. Copies may repeat; their ids tell.

        Returns:
            Whether there are more: the caps are to be kept in between.
        """
        if not self._is_checked:
            stream = await self._stream_of(subject)
            if stream == self._stream and overlap(subject, self._scope.partition):
                self._troubles.tell(
                    "dead_letter_subject",
                    "no copies of dead letters are sent: the task reads dead_letter_subject"
                    f" {subject} itself; choose another subject",
                    level=logging.ERROR,
                )
                self._subject = None
                return False
            self._is_checked = True
        done = await self._letters.copied(self._scope)
        batch: list[StoredLetter] = []
        sent = 0
        first = f"({done}" if done else "-"
        async with aclosing(self._letters.after(self._scope, first)) as letters:
            async for stored in letters:
                batch.append(stored)
                if len(batch) >= _AT_ONCE:
                    await self._publish(subject, batch)
                    sent, batch = sent + len(batch), []
                    if sent >= TRIM_AT_ONCE:
                        return True
        if batch:
            await self._publish(subject, batch)
        return False

    async def _stream_of(self, subject: str) -> str:
        try:
            return str(await self._client.jetstream().find_stream_name_by_subject(subject))
        except NotFoundError:
            if is_imported(self._client):  # where the subject may be another one
                return ""
            where, advice = await not_there(self._client, "source.")
            raise UnavailableError(
                f"no stream takes dead_letter_subject {subject} in {where}; create one{advice}"
            ) from None
        except APIError as error:
            if not is_not_enabled(error):
                raise
            raise UnavailableError(await no_jetstream(self._client, "source.")) from None

    async def _publish(self, subject: str, batch: list[StoredLetter]) -> None:
        await asyncio.gather(*(self._copy(subject, stored) for stored in batch))
        await self._letters.note_copied(self._scope, batch[-1].entry)

    async def _copy(self, subject: str, stored: StoredLetter) -> None:
        """Send a copy. What is too large for NATS must not hold the others up forever."""
        data = stored.letter.message.data
        headers = letter_headers(stored, self._name_of(stored))
        size = len(data) + _size_of(headers)
        if size > self._client.max_payload:
            self._too_large(stored, size)
            return
        jetstream = self._client.jetstream()
        try:
            ack = await jetstream.publish(subject, data, timeout=_TIMEOUT_S, headers=headers)
            if ack.duplicate and not await self._is_there(subject, ack, headers):
                _log.error(
                    "%s: stream %s has another message under the id of the copy of dead letter %s,"
                    " as message %d; the copy gets an id of its own",
                    self._scope, ack.stream, stored.id, ack.seq,
                )  # fmt: skip
                headers[_ID] = f"{headers[_ID]}~{uuid.uuid4().hex}"
                await jetstream.publish(subject, data, timeout=_TIMEOUT_S, headers=headers)
        except APIError as error:
            if error.err_code != _TOO_LARGE:
                raise
            self._too_large(stored, size)

    async def _is_there(self, subject: str, ack: PubAck, headers: dict[str, str]) -> bool:
        """Whether what the stream has under an id is a copy of the same message's death. What is
        not there any more was one."""
        try:
            found = await self._client.jetstream().get_msg(ack.stream, seq=ack.seq)
        except NotFoundError:
            return True
        its = found.headers or {}
        is_same = found.subject == subject or is_imported(self._client)
        return is_same and all(its.get(n) == headers.get(n) for n in _COMPARED)

    def _too_large(self, stored: StoredLetter, size: int) -> None:
        _log.error(
            "%s: no copy of the dead letter %s is sent, which is in Redis only: with its headers it"
            " has %d bytes, and NATS or the stream takes less (max_payload, max_msg_size)",
            self._scope, stored.id, size,
        )  # fmt: skip

    def _name_of(self, stored: StoredLetter) -> str:
        """What JetStream tells copies of one death by, while the stream's window for that lasts.

        With ``ack: done`` a message may come again after Redis was wiped, and die again. So its
        copies are named after the message, with the time it died before where it was redriven since
        (a redriven letter's history is cut at 20 times, so that these cannot be counted). A message
        has one dead letter at a time, however many windows give it up. With ``ack: stored`` no
        message comes again, and the letter has a name. The incarnation of the source, which tells
        messages of the same sequence apart, is in front of both, but for letters of an earlier
        version.
        """
        incarnation, seq = stored.letter.incarnation, stored.letter.message.stream_seq
        task, partition = escape(self._scope.task), escape(self._scope.partition)
        where = f"{qualifier(self._scope.product, incarnation)}{task}/{partition}/dead"
        if not self._acks_when_done:
            return f"{where}/{stored.entry}" if incarnation else stored.id
        name = f"{where}/{seq}" if incarnation else f"{self._scope}/{self._stream}/{seq}"
        history = stored.letter.history
        return f"{name}/{history[-1].time_ms}" if history else name


def _size_of(headers: dict[str, str]) -> int:
    """Bytes of headers as NATS counts them: a first line, one for each, and an empty one."""
    lines = (f"{name}: {value}".encode() for name, value in headers.items())
    return len(b"NATS/1.0\r\n\r\n") + sum(len(line) + 2 for line in lines)


def letter_headers(stored: StoredLetter, name: str) -> dict[str, str]:
    """The message's own headers, less those that NATS acts on, and what became of it."""
    letter = stored.letter
    own = {
        header_name(name): header_value(value)
        for name, value in (letter.message.headers or {}).items()
        if name and not name.lower().startswith("nats-")
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
        _ID: header_value(name),
    }
