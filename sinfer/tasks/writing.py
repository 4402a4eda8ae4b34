"""Writing a window's results to every sink that has not got them yet."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from sinfer.errors import SinkError, SinkRejectedError, SinkUnavailableError
from sinfer.results import WindowResults
from sinfer.sinks.base import Sink
from sinfer.tasks.ready_task import ReadyTask

_log = logging.getLogger(__name__)

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Written:
    """What the sinks did.

    Attributes:
        done: names of sinks that need not be written again.
        later: what the sinks said that want to be asked again; empty when none does.
        refused: what a sink said that will never take the results, where no fallback took them.
    """

    done: frozenset[str]
    later: str
    refused: str


class SinkWriter:
    """Writes results of one task, to all of its sinks at once."""

    def __init__(self, ready: ReadyTask) -> None:
        self._ready = ready

    async def write(self, results: WindowResults, finished: frozenset[str]) -> Written:
        """Write the sinks that are not finished; what one refuses for good goes to the fallback."""
        names = [name for name in self._ready.sinks if name not in finished]
        problems = await asyncio.gather(
            *(self._write_one(self._ready.sinks[name], results) for name in names)
        )
        done, later = set(finished), []
        refused: dict[str, SinkError] = {}
        for name, problem in zip(names, problems, strict=True):
            if problem is None:
                done.add(name)
            elif isinstance(problem, SinkRejectedError):
                refused[name] = problem
            else:
                later.append(f"sink {name}: {problem}")
        text = "; ".join(f"sink {name}: {problem}" for name, problem in refused.items())
        if refused:
            _log.error("window %s: refused for good by %s", results.window_id, text)
        if refused and self._ready.fallback is not None:
            problem = await self._write_one(self._ready.fallback, results)
            if problem is None:
                done |= refused.keys()
                text = ""
            elif not isinstance(problem, SinkRejectedError):
                later.append(f"fallback: {problem}")
        return Written(frozenset(done), "; ".join(later), text)

    async def _write_one(self, sink: Sink, results: WindowResults) -> SinkError | None:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await sink.write(results)
        except SinkError as error:
            return error
        except TimeoutError:
            return SinkUnavailableError(f"no answer within {_TIMEOUT_S:.0f}s")
        except Exception as error:  # a product's own sink
            return SinkRejectedError(f"{type(error).__name__}: {error}")
        return None
