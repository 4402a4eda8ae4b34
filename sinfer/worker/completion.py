"""What a window leaves behind when it ends: dead letters, and a line in the ledger."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from sinfer.store.history.ledger import LedgerEntry
from sinfer.store.work.claim import Claim
from sinfer.store.work.contents import pack_members
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter, Origin
from sinfer.worker.outcome import Failure


@dataclass(slots=True)
class Timings:
    """How long the stages of one attempt took, in milliseconds."""

    inference: int = 0
    sinks: int = 0

    @contextmanager
    def of(self, stage: Literal["inference", "sinks"]) -> Iterator[None]:
        """Note how long the block takes, however it ends."""
        started = time.monotonic()
        try:
            yield
        finally:
            setattr(self, stage, round((time.monotonic() - started) * 1000))


def attempts_of(claim: Claim) -> int:
    """How often the window was tried, before it was processed again included."""
    again = claim.window.record.reprocessing
    return claim.attempt + claim.deaths + (0 if again is None else again.attempts)


def dead_letter(
    claim: Claim, message: Message, place: int, failure: Failure, now_ms: int
) -> DeadLetter:
    """The dead letter of one message of a window.

    Args:
        claim: the window.
        message: the message.
        place: its place among the messages of the claim.
        failure: what went wrong with it.
        now_ms: the store's clock.
    """
    window, record = claim.window, claim.window.record
    again = record.reprocessing
    return DeadLetter(
        message,
        failure.stage,
        failure.error,
        now_ms,
        window=window.public_id,
        attempts=claim.attempt + claim.deaths,
        ordinal=again.ordinals[place] if again is not None and again.ordinals else place,
        origin=Origin(
            record.key,
            record.start_ms,
            record.end_ms,
            window.reason,
            record.revision,
            record.count,
        ),
        history=again.history[place] if again is not None and again.history else [],
        incarnation=record.incarnation,
    )


def ledger_entry(
    claim: Claim,
    messages: Sequence[Message],
    model: str,
    dead: int,
    timings: Timings,
    sinks: Sequence[str] = (),
    filtered: Sequence[int] = (),
) -> LedgerEntry:
    """What the ledger notes of a window that ends.

    Args:
        claim: the window.
        messages: of the window, in order.
        model: name or version of the model.
        dead: how many of the messages were given up.
        timings: of the last attempt.
        sinks: that its results went to.
        filtered: stream sequences of the messages that ``preprocess`` filtered out.
    """
    window, record = claim.window, claim.window.record
    again = record.reprocessing
    return LedgerEntry(
        window=window.public_id,
        key=record.key,
        start_ms=record.start_ms,
        end_ms=record.end_ms,
        reason=window.reason,
        revision=record.revision,
        members=pack_members(message.stream_seq for message in messages),
        count=len(messages),
        bytes=sum(len(message.data) for message in messages),
        closed_ms=window.closed_ms,
        claimed_ms=claim.claimed_ms,
        inference_ms=timings.inference,
        sinks_ms=timings.sinks,
        attempts=attempts_of(claim),
        dead=dead,
        model=model,
        kind="first" if again is None else again.kind,
        ordinals=[] if again is None else again.ordinals,
        incarnation=record.incarnation,
        sinks=list(sinks),
        filtered=pack_members(sorted(filtered)),
    )
