"""What of a window is given up, and why."""

from __future__ import annotations

from sinfer.store.work.claim import Claim
from sinfer.types.message import Message
from sinfer.windows.dead_letters import DeadLetter, Origin, Stage
from sinfer.worker.attempts import Attempt, TryLaterError
from sinfer.worker.outcome import Failure, Outcome


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


def refused_failures(messages: int, outcome: Outcome, *, is_per_item: bool) -> list[Failure]:
    """The messages whose results nobody took. Where results are not those of single messages it
    cannot be told whose one is, so that all of the window are given up."""
    if not outcome.refused:
        return []
    if is_per_item:
        return [Failure(r.ordinal, r.ordinal, "sink", r.error) for r in outcome.refused]
    gone = {p for f in outcome.failures for p in range(f.first, f.last + 1)}
    error = outcome.refused[0].error
    places = (p for p in range(messages) if p not in gone)
    return [Failure(place, place, "sink", error) for place in places]


def given_up(messages: int, error: str, outcome: Outcome | None, *, is_per_item: bool) -> Outcome:
    """All messages without a failure of their own are given up for this reason.

    Args:
        messages: how many the window has.
        error: the reason.
        outcome: what is known; None when nothing is.
        is_per_item: whether results are those of single messages.
    """
    failures = [] if outcome is None else [*outcome.failures]
    if outcome is not None:
        failures += refused_failures(messages, outcome, is_per_item=is_per_item)
    gone = {place for f in failures for place in range(f.first, f.last + 1)}
    filtered = [] if outcome is None else outcome.filtered
    gone |= set(filtered)
    stage: Stage = "sink" if outcome is not None and not outcome.retries else "inference"
    failures += [
        Failure.at(place, place, stage, error) for place in range(messages) if place not in gone
    ]
    confirmed = (0, 0, 0) if outcome is None else outcome.confirmed
    return Outcome(failures=failures, confirmed=confirmed, filtered=filtered)


def given_up_text(attempt: Attempt, later: TryLaterError) -> str:
    """Why items are given up: what was said against one of them first, and what came last."""
    first = attempt.progress.reason
    told = f"{first}; then: {later}" if first and first not in str(later) else str(later)
    return f"given up after {attempt.claim.attempt} attempts (max_attempts): {told}"


def broken_off_text(claim: Claim) -> str:
    """Why a window is given up of which no attempt came to its end."""
    error = f"it was broken off in each of {claim.attempt - 1} attempts (max_attempts)"
    return f"{error}; the worker's log says why"
