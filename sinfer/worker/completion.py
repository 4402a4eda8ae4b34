"""What a window leaves behind when it ends: dead letters, and a line in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.store.history.ledger import LedgerEntry, pack_entry
from sinfer.store.partition.account import CONFIRMED_COUNTS, Count
from sinfer.store.work.claim import Claim, Completion
from sinfer.store.work.contents import pack_members
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter, Origin
from sinfer.worker.outcome import Failure, Outcome

if TYPE_CHECKING:
    from sinfer.worker.attempts import Attempt


@dataclass(slots=True)
class Timings:
    """How long the stages of one attempt took, in milliseconds."""

    inference: int = 0
    sinks: int = 0


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
        members=pack_members([message.stream_seq for message in messages]),
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
        filtered=pack_members(sorted(filtered)) if filtered else [],
    )


def completion_of(
    attempt: Attempt, outcome: Outcome, sinks: Sequence[str], now_ms: int, ledger: int
) -> Completion:
    """How a window ends.

    Args:
        attempt: the window, and its messages.
        outcome: what became of its items.
        sinks: that its results went to.
        now_ms: the store's clock, for dead letters.
        ledger: how many entries the ledger keeps.
    """
    claim, messages = attempt.claim, attempt.messages
    dead, gone = [], set()
    for failure in outcome.failures:
        for place in range(failure.first, failure.last + 1):
            dead.append(dead_letter(claim, messages[place], place, failure, now_ms))
            gone.add(place)
    filtered = [messages[p].stream_seq for p in outcome.filtered if p not in gone]
    sunk = len(messages) - len(dead) - len(filtered)
    counts = {Count.SUNK: sunk, Count.DEAD: len(dead), Count.FILTERED: len(filtered)}
    counts[Count.WINDOWS] = 1
    counts[Count.RESULTS] = len(outcome.rows) - len(outcome.refused)
    counts[Count.FRUITLESS] = 0 if outcome.rows or outcome.refused else sunk
    counts |= dict(zip(CONFIRMED_COUNTS, outcome.confirmed, strict=True))
    counts[Count.TAKEN] = int(len(dead) < len(messages))
    entry = None
    if ledger:
        entry = pack_entry(
            ledger_entry(
                claim, messages, outcome.model, len(dead), attempt.timings, sinks, filtered
            )
        )
    return Completion(claim, counts, dead, entry, ledger, filtered)
