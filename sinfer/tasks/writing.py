"""Writing a window's results to every sink that has not got them yet."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from sinfer.errors import SinkError, SinkRejectedError, SinkUnavailableError
from sinfer.results import WindowResults
from sinfer.retry_after import asked_s
from sinfer.sinks.base import Sink
from sinfer.tasks.ready_task import FALLBACK, ReadyTask, sink_label
from sinfer.windows.dead_letters import one_line

_log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Written:
    """What the sinks did.

    Attributes:
        done: names of sinks that need not be written again.
        refused: what a sink said that will never take the results, where no fallback took them.
        away: what is to be asked again, and what was wrong with it.
        answered: what took results or refused them; named like ``away``.
        wait_ms: how long nobody asks those that are away.
    """

    done: frozenset[str]
    refused: str = ""
    away: dict[str, str] = field(default_factory=dict)
    answered: frozenset[str] = frozenset()
    wait_ms: int = 0


class SinkWriter:
    """Writes results of one task, to all of its sinks at once."""

    def __init__(self, ready: ReadyTask) -> None:
        self._ready = ready

    async def write(self, results: WindowResults, finished: frozenset[str]) -> Written:
        """Write the sinks that are not finished; what one refuses for good goes to the fallback."""
        names = [name for name in self._ready.sinks if name not in finished]
        problems = await asyncio.gather(
            *(
                self._write_one(sink_label(n), self._ready.sinks[n], results.for_sink(n))
                for n in names
            )
        )
        done, away = set(finished), {}
        refused: dict[str, SinkError] = {}
        for name, problem in zip(names, problems, strict=True):
            if problem is None:
                done.add(name)
            elif isinstance(problem, SinkRejectedError):
                refused[name] = problem
            else:
                away[sink_label(name)] = one_line(str(problem))
        answered = {sink_label(name) for name in names} - away.keys()
        text = "; ".join(f"sink {name}: {problem}" for name, problem in refused.items())
        if refused:
            _log.error("window %s: refused for good by %s", results.window_id, text)
        if refused and self._ready.fallback is not None:
            fallback = self._ready.fallback
            problem = await self._write_one(FALLBACK, fallback, results.for_sink(None))
            if problem is None:
                done |= refused.keys()
                text = ""
            if problem is None or isinstance(problem, SinkRejectedError):
                answered.add(FALLBACK)
            else:
                away[FALLBACK] = one_line(str(problem))
        wait_ms = max((self._ready.breaker(what).wait_ms for what in away), default=0)
        return Written(frozenset(done), text, away, frozenset(answered), wait_ms)

    async def _write_one(self, label: str, sink: Sink, results: WindowResults) -> SinkError | None:
        breaker = self._ready.breaker(label)
        if not breaker.may_write():
            return SinkUnavailableError(breaker.error)
        try:
            problem = await _try(sink, results)
        except BaseException:
            breaker.broken_off()
            raise
        if problem is None or isinstance(problem, SinkRejectedError):
            breaker.answered()
        else:
            wait_s = problem.retry_after if isinstance(problem, SinkUnavailableError) else None
            breaker.failed(str(problem), asked_s(wait_s))
        return problem


async def _try(sink: Sink, results: WindowResults) -> SinkError | None:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await sink.write(results)
    except SinkError as error:
        return error
    except TimeoutError:
        return SinkUnavailableError(f"no answer within {_TIMEOUT_S:.0f}s")
    except OSError as error:  # a product's own sink: no connection, a full disk
        return SinkUnavailableError(f"{type(error).__name__}: {error}")
    except Exception as error:  # a product's own sink
        return SinkRejectedError(f"{type(error).__name__}: {error}")
    return None
