"""Group commit: writes that arrive while one is under way go together in the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

W = TypeVar("W")


class GroupCommit(Generic[W]):
    """Collects writes and hands them to a thread, one group at a time.

    Args:
        commit: writes a group in one transaction and returns what it has to say to each write, an
            error or None; or it raises and writes none of them. Runs in a thread.
        size: how much a write adds to its group.
        max_size: most in one group, unless a single write is larger.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[W]], Sequence[Exception | None]],
        *,
        size: Callable[[W], int],
        max_size: int,
    ) -> None:
        self._commit = commit
        self._size = size
        self._max_size = max_size
        self._pending: deque[tuple[W, asyncio.Future[None]]] = deque()
        self._writer: asyncio.Task[None] | None = None

    async def write(self, write: W) -> None:
        """Write; when this returns it is committed.

        Raises:
            Exception: what ``commit`` returned for this write, or raised.
        """
        done = asyncio.get_running_loop().create_future()
        self._pending.append((write, done))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write_pending())
        await done

    async def _write_pending(self) -> None:
        try:
            while self._pending:
                await self._write_group(self._next_group())
        finally:
            self._writer = None

    def _next_group(self) -> list[tuple[W, asyncio.Future[None]]]:
        group = [self._pending.popleft()]
        size = self._size(group[0][0])
        while self._pending and (size := size + self._size(self._pending[0][0])) <= self._max_size:
            group.append(self._pending.popleft())
        return group

    async def _write_group(self, group: list[tuple[W, asyncio.Future[None]]]) -> None:
        errors = await self._try([write for write, _ in group])
        for (_, done), error in zip(group, errors, strict=True):
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

    async def _try(self, writes: list[W]) -> Sequence[Exception | None]:
        try:
            return await asyncio.to_thread(self._commit, writes)
        except Exception as error:
            return [error] * len(writes)

    async def aclose(self) -> None:
        """Wait for what is under way."""
        if self._writer is not None:
            await asyncio.wait([self._writer])
