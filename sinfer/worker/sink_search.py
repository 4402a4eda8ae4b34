"""Writing results of which one may be what workers die of: some at a time, in several attempts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sinfer.store.work.claim import Claim, Claims, StoredOutput
from sinfer.types.result import ResultRow
from sinfer.windows.dead_letters import one_line
from sinfer.worker.killer_search import KillerSearch, most_deaths, pack_search, reason, search_of
from sinfer.worker.outcome import Outcome, Refused, pack_outcome
from sinfer.worker.sink_step import Written

_DEATHS_WITH_RESULTS = 10
"""Before so many workers have died with a window whose results are known, none of them is given up.
Sinks may have them already, and what has a result should not become a dead letter as well."""


async def write_in_groups(
    claims: Claims,
    claim: Claim,
    stored: StoredOutput,
    outcome: Outcome,
    write: Callable[[list[ResultRow]], Awaitable[Written]],
) -> Written | None:
    """Write the results of a window, and note in its outcome those that are given up.

    Args:
        claims: the partition.
        claim: the window.
        stored: what earlier attempts left.
        outcome: what is known of it.
        write: writes some of its results.

    Returns:
        What the sinks did last; None where the window is not held any more.
    """
    rows = {row.ordinal: row for row in outcome.rows}
    search = search_of(stored.search, "sink")
    if search is None:
        # Without a note of it nobody knows whether a worker ever died of writing.
        search = KillerSearch("sink", [list(rows)])
    search.note_death(claim.deaths, _DEATHS_WITH_RESULTS)
    given_up = {o: reason(search.hits[o], alone=True) for o in search.blamed}
    if claim.deaths > max(_DEATHS_WITH_RESULTS, most_deaths(len(rows))):
        given_up |= dict.fromkeys(search.give_up(), reason(claim.deaths, alone=False))
    known = {found.ordinal for found in outcome.refused}
    outcome.refused += [
        Refused(ordinal, one_line(error))
        for ordinal, error in given_up.items()
        if ordinal not in known
    ]
    written = Written(stored.sinks)
    while group := search.next_group(claim.deaths):
        if not await claims.store_output(
            claim, output=pack_outcome(outcome), search=pack_search(search)
        ):
            return None
        part = [rows[ordinal] for ordinal in group if ordinal in rows]
        written = await write(part)
        if written.away:
            break
    return written
