"""Writing a window's results to every sink that has not got them yet."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from sinfer.errors import HookError, SinkError, SinkRejectedError, SinkUnavailableError
from sinfer.hooks.call import Hook, describe
from sinfer.http.retry_after import asked_s
from sinfer.products.pipeline import InferPipeline
from sinfer.types.message import Message
from sinfer.types.result import Confirmed, ResultRow, WindowResults, qualifier
from sinfer.windows.dead_letters import one_line
from sinfer.windows.ids import Scope
from sinfer.worker.attempts import Attempt
from sinfer.worker.outcome import Outcome, Refused
from sinfer.worker.ready_task import FALLBACK, ReadyTask, SinkWrite
from sinfer.worker.refusal_judge import SinkJudge
from sinfer.worker.result_keys import set_of_messages

_log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Written:
    """What the sinks did.

    Attributes:
        done: names of sinks that need not be written again.
        refused: results that will never be taken and that no fallback took, by ordinal.
        away: what is to be asked again, and what was wrong with it.
        answered: what took results or refused them; named like ``away``.
        wait_ms: how long nobody asks those that are unavailable.
        confirmed: what the sinks say of results that they took, all of them together.
    """

    done: frozenset[str]
    refused: dict[int, Refused] = field(default_factory=dict)
    away: dict[str, str] = field(default_factory=dict)
    answered: frozenset[str] = frozenset()
    wait_ms: int = 0
    confirmed: Confirmed = field(default_factory=Confirmed)


class _Answer(NamedTuple):
    """What a sink came to: what is wrong, if anything, and what it knows of the results."""

    problem: SinkError | None
    confirmed: Confirmed = Confirmed()


@dataclass(slots=True)
class _Found:
    """What sinks have answered so far; see ``Written``.

    Attributes:
        held_ms: how long those wait that may refuse everything.
    """

    results: WindowResults
    done: set[str]
    refused: dict[int, Refused]
    away: dict[str, str] = field(default_factory=dict)
    held_ms: int = 0
    confirmed: Confirmed = field(default_factory=Confirmed)

    def took(self, name: str, confirmed: Confirmed) -> None:
        """A sink need not be written again."""
        self.done.add(name)
        self.confirmed = self.confirmed + confirmed if self.confirmed != Confirmed() else confirmed


def name_results(
    ready: ReadyTask, scope: Scope, attempt: Attempt, rows: Sequence[ResultRow]
) -> WindowResults:
    """The results of a window as sinks receive them.

    With ``ack: done``, messages are read again after Redis was wiped and get into windows that are
    cut in another way. Of what sinks have already, only the message is the same then, so that its
    stream sequence names the one result that it has. Elsewhere, and where results are not those of
    single messages, it is the place in the window that names them. In front of both go the product
    and the incarnation of the source, but for windows that an earlier version opened: results of
    them may be in sinks under names without.

    Args:
        ready: the task.
        scope: the partition.
        attempt: the window, and its messages in order.
        rows: with the places of results as their ordinals.
    """
    closed = attempt.claim.window
    record, again = closed.record, closed.record.reprocessing
    by_message = ready.is_by_message
    if by_message:
        named = [_of_message(row, attempt.messages) for row in rows]
    elif ready.pipeline.results_per == "item" and again is not None and again.ordinals:
        named = [ResultRow(again.ordinals[row.ordinal], row.data) for row in rows]
    else:
        named = list(rows)
    incarnation = record.incarnation
    base_id = set_of_messages(ready.pipeline, scope, record) if by_message else closed.base_id
    if incarnation:
        base_id = f"{qualifier(ready.product, incarnation)}{base_id}"
    return WindowResults(
        product=ready.product,
        task=ready.config.id,
        partition=scope.partition,
        key=record.key,
        window_id=closed.public_id,
        base_id=base_id,
        revision=record.revision,
        attempt=attempt.number,
        start_ms=record.start_ms,
        end_ms=record.end_ms,
        close_reason=closed.reason,
        closed_ms=closed.closed_ms,
        rows=named,
        by_message=by_message,
        incarnation=incarnation,
        run=closed.run,
        is_again=again is not None,
        may_be_there=attempt.may_have_been_tried
        or (again is not None and again.kind == "redrive")
        or (by_message and record.first_seq <= record.repeats_to),
        messages=_messages_of(ready.pipeline, rows, named, attempt.messages),
    )


def _messages_of(
    pipeline: InferPipeline[Any, Any],
    rows: Sequence[ResultRow],
    named: Sequence[ResultRow],
    messages: Sequence[Message],
) -> dict[int, Message]:
    """The message of each result, by the result's ordinal."""
    if pipeline.results_per != "item":
        return {}
    pairs = zip(rows, named, strict=True)
    return {result.ordinal: messages[row.ordinal] for row, result in pairs}


def _of_message(row: ResultRow, messages: Sequence[Message]) -> ResultRow:
    return ResultRow(messages[row.ordinal].stream_seq, row.data)


async def write_rows(
    ready: ReadyTask,
    scope: Scope,
    attempt: Attempt,
    outcome: Outcome,
    rows: Sequence[ResultRow],
    finished: frozenset[str],
    holds: SinkJudge,
) -> Written:
    """Write some results of a window, and note in its outcome which of them are refused.

    Args:
        ready: the task.
        scope: the partition.
        attempt: the window.
        outcome: what is known of it.
        rows: the results.
        finished, holds: as of ``write_sinks``.
    """
    results = name_results(ready, scope, attempt, rows)
    # Sinks know results by names that may differ from their places in the window.
    named = {row.ordinal: n.ordinal for row, n in zip(rows, results.rows, strict=True)}
    refused = {named[r.ordinal]: r for r in outcome.refused if r.ordinal in named}
    written = await write_sinks(ready, results, finished, refused, holds)
    attempt.answered |= written.answered
    new, known, collided = outcome.confirmed
    more = written.confirmed
    outcome.confirmed = (new + more.new, known + more.known, collided + more.collided)
    if refused or written.refused:
        places = {name: place for place, name in named.items()}
        outcome.refused = [r for r in outcome.refused if r.ordinal not in named] + [
            Refused(places[name], found.error, found.by_fallback)
            for name, found in sorted(written.refused.items())
        ]
    return written


async def write_sinks(
    ready: ReadyTask,
    results: WindowResults,
    finished: frozenset[str],
    refused: Mapping[int, Refused],
    holds: SinkJudge | None = None,
) -> Written:
    """Write the sinks that are not finished, all at once; what one refuses for good goes to the
    fallback.

    Args:
        ready: the task.
        results: of the window.
        finished: names of sinks that have them, all but those that they refused.
        refused: what those refused and no fallback took; see ``Written``.
        holds: says whether a refusal of all results has to wait, as the sink may refuse everything.
            It is not asked where a fallback takes what is refused.
    """
    names = [name for name in ready.sinks if name not in finished]
    writing = [
        _write(ready, write, replace(results, sink=write.key))
        for write in (ready.writes[name] for name in names)
    ]
    answers = [await writing[0]] if len(writing) == 1 else await asyncio.gather(*writing)
    found = _Found(results, set(finished), dict(refused))
    for name, (problem, of_sink) in zip(names, answers, strict=True):
        label = ready.writes[name].label
        if problem is None:
            found.took(name, of_sink)
        elif isinstance(problem, SinkRejectedError):
            await _note_refusal(ready, found, name, problem, of_sink, holds)
        else:
            found.away[label] = one_line(str(problem))
    answered = {ready.writes[name].label for name in names} - found.away.keys()
    if found.refused:
        await _fall_back(ready, found, answered)
    wait_ms = found.held_ms
    for what in found.away:
        wait_ms = max(wait_ms, ready.breaker(what).wait_ms)
    return Written(
        frozenset(found.done),
        found.refused,
        found.away,
        frozenset(answered),
        wait_ms,
        found.confirmed,
    )


async def _note_refusal(
    ready: ReadyTask,
    found: _Found,
    name: str,
    problem: SinkRejectedError,
    confirmed: Confirmed,
    holds: SinkJudge | None,
) -> None:
    """Note what a sink refuses for good, unless it may refuse everything."""
    label, results = ready.writes[name].label, found.results
    ordinals = refused_rows(results, problem)
    is_all = len(ordinals) == len(results) and ready.fallback is None
    held = await holds(label, str(problem)) if holds is not None and is_all else None
    if held is not None:
        found.away[label] = one_line(held.why)
        found.held_ms = max(found.held_ms, held.wait_ms)
        return
    for ordinal in ordinals:
        known = found.refused.get(ordinal, Refused(ordinal, ""))
        found.refused[ordinal] = known.also(f"{label}: {problem}")
    _log.error(
        "window %s: %d of %d results refused for good by %s: %s",
        results.window_id, len(ordinals), len(results), label, one_line(str(problem)),
    )  # fmt: skip
    found.took(name, confirmed)


async def _fall_back(ready: ReadyTask, found: _Found, answered: set[str]) -> None:
    """Give the fallback what a sink refuses for good."""
    refused = found.refused
    homeless = [row for row in found.results if row.ordinal in refused]
    homeless = [row for row in homeless if not refused[row.ordinal].by_fallback]
    if not homeless or ready.fallback_write is None:
        return
    part = replace(found.results.for_sink(None), rows=homeless)
    problem, confirmed = await _write(ready, ready.fallback_write, part)
    if problem is not None and not isinstance(problem, SinkRejectedError):
        found.away[FALLBACK] = one_line(str(problem))
        return
    found.confirmed += confirmed
    answered.add(FALLBACK)
    nowhere = refused_rows(part, problem) if problem is not None else []
    for row in homeless:
        known = refused.pop(row.ordinal)
        if row.ordinal in nowhere:
            refused[row.ordinal] = known.also(f"{FALLBACK}: {problem}", by_fallback=True)


async def _write(ready: ReadyTask, write: SinkWrite, results: WindowResults) -> _Answer:
    """Write one sink, unless it was left alone a moment ago."""
    breaker = ready.breakers.get(write.label)  # a sink that never failed has none
    if breaker is not None and not breaker.may_write():
        return _Answer(SinkUnavailableError(breaker.error))
    try:
        answer = await _try(write.hook, results)
    except BaseException:
        if breaker is not None:
            breaker.broken_off()
        raise
    problem = answer.problem
    if problem is None or isinstance(problem, SinkRejectedError):
        if (breaker := ready.breakers.get(write.label)) is not None:
            breaker.answered()
    else:
        wait_s = problem.retry_after if isinstance(problem, SinkUnavailableError) else None
        ready.breaker(write.label).failed(str(problem), asked_s(wait_s))
    return answer


async def _try(write: Hook, results: WindowResults) -> _Answer:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            return _Answer(None, _checked(await write.wait(results)))
    except SinkRejectedError as error:
        return _Answer(error, _checked(error.confirmed))
    except SinkError as error:
        return _Answer(error)
    except TimeoutError:
        return _Answer(SinkUnavailableError(f"no answer within {_TIMEOUT_S:.0f}s"))
    except OSError as error:  # a product's own sink: no connection, a full disk
        return _Answer(SinkUnavailableError(describe(error)))
    except HookError as error:  # a product's own sink
        return _Answer(SinkRejectedError(error.text))


def _checked(answer: object) -> Confirmed:
    """What a sink says of its results; nothing where that is no count, as of a product's own."""
    if type(answer) is not Confirmed:
        return Confirmed()
    counts = (answer.new, answer.known, answer.collided)
    return answer if all(type(n) is int and n >= 0 for n in counts) else Confirmed()


def refused_rows(results: WindowResults, error: SinkRejectedError) -> list[int]:
    """The ordinals of the results that a sink refuses, in order.

    One that names only rows that it was not given has not said which: all are refused.
    """
    own = [row.ordinal for row in results]
    return [ordinal for ordinal in own if ordinal in (error.ordinals or ())] or own
