"""Group commit: who goes together, and who gets which error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from sinfer.aio.group_commit import GroupCommit
from sinfer.errors import SinkRejectedError, SinkUnavailableError


class Commits:
    """Keeps what is committed; the first group waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.errors: dict[int, Exception] = {}
        self.has_begun = threading.Event()
        self.may_end = threading.Event()

    def __call__(self, writes: Sequence[int]) -> list[Exception | None]:
        self.has_begun.set()
        assert self.may_end.wait(10)
        for error in filter(None, map(self.errors.get, writes)):
            if not isinstance(error, SinkRejectedError):
                raise error
        self.groups.append([write for write in writes if write not in self.errors])
        return [self.errors.get(write) for write in writes]


async def started(
    commits: Commits, group: GroupCommit[int], count: int
) -> list[asyncio.Task[None]]:
    """Writes 0 to count - 1, of which 0 is under way and the others are pending."""
    tasks = [asyncio.create_task(group.write(0))]
    await asyncio.to_thread(commits.has_begun.wait, 10)
    tasks += [asyncio.create_task(group.write(i)) for i in range(1, count)]
    await asyncio.sleep(0)
    return tasks


def grouped(commits: Commits, max_size: int = 100) -> GroupCommit[int]:
    return GroupCommit(commits, size=lambda write: 1, max_size=max_size)


async def test_what_arrives_during_a_commit_goes_together_in_the_next() -> None:
    commits = Commits()
    group = grouped(commits)
    tasks = await started(commits, group, 4)
    commits.may_end.set()
    await asyncio.gather(*tasks)
    assert commits.groups == [[0], [1, 2, 3]]
    await group.aclose()


async def test_a_group_has_a_largest_size() -> None:
    commits = Commits()
    group = grouped(commits, max_size=2)
    tasks = await started(commits, group, 6)
    commits.may_end.set()
    await asyncio.gather(*tasks)
    assert commits.groups == [[0], [1, 2], [3, 4], [5]]


async def test_a_refused_write_fails_alone() -> None:
    commits = Commits()
    commits.errors[2] = SinkRejectedError("no")
    group = grouped(commits)
    tasks = await started(commits, group, 4)
    commits.may_end.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [None, None, commits.errors[2], None]
    assert commits.groups == [[0], [1, 3]]


async def test_all_of_a_group_fail_when_the_place_is_away_and_the_next_is_tried() -> None:
    commits = Commits()
    commits.errors[2] = SinkUnavailableError("away")
    group = grouped(commits)
    tasks = await started(commits, group, 4)
    commits.may_end.set()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert done == [None, *[commits.errors[2]] * 3]
    await group.write(9)
    assert commits.groups == [[0], [9]]


async def test_a_caller_that_leaves_does_not_stop_the_others() -> None:
    commits = Commits()
    group = grouped(commits)
    tasks = await started(commits, group, 3)
    tasks[0].cancel()
    tasks[1].cancel()
    commits.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    await tasks[2]
    assert commits.groups[0] == [0]


async def test_closing_waits_for_what_is_under_way() -> None:
    commits = Commits()
    group = grouped(commits)
    tasks = await started(commits, group, 2)
    closing = asyncio.create_task(group.aclose())
    await asyncio.sleep(0)
    assert not closing.done()
    commits.may_end.set()
    await closing
    assert commits.groups == [[0], [1]]
    await asyncio.gather(*tasks)
