"""What the next writer of a partition starts from, as the last one left it."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sinfer.errors import LostPositionError
from sinfer.store.keys import CONFIG_FIELD, INCARNATION_FIELD, VERSION_FIELD, PartitionKeys
from sinfer.store.lua import Argument
from sinfer.windows.ids import Scope, reset_command
from sinfer.windows.records import WindowRecord, read_record, unpack_closed

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What a new writer starts from.

    Attributes:
        source: the reader's state as it was committed; None when nothing ever was.
        watermark_ms: the watermark; None before the first item.
        windows: open windows by id.
        config: the task's configuration as its last writer stored it; empty when none did.
        layout: how often the task's windows were cut again in another way.
        incarnation: of the source, noted on windows that open; empty when no writer knew it, or
            when the position was removed: what is read next is of another one.
        repeats_to: noted likewise; see ``WindowRecord``.
        deaths: how many writers in a row ended without giving the partition back.
        hand: what the last of them noted before it gave it to the product's code; empty when it
            noted nothing.
        version: of the pipeline that opened windows last; empty where it named none.
    """

    source: bytes | None
    watermark_ms: int | None
    windows: dict[str, WindowRecord]
    config: str = ""
    layout: int = 0
    incarnation: str = ""
    repeats_to: int = 0
    deaths: int = 0
    hand: bytes = b""
    version: str = ""


async def read_state(
    store: Store, scope: Scope, token: int, *, may_be_lost: bool
) -> tuple[int, PartitionState]:
    """Read where the last writer stopped. Open windows that cannot be read are closed by it.

    Args:
        store: the window store.
        scope: the partition.
        token: the fencing token of the lease.
        may_be_lost: whether the position may be gone while there are windows.

    Returns:
        How many commits there were, and the state.

    Raises:
        LostPositionError: the position is gone, and may not be.
    """
    keys, redis = PartitionKeys(scope), store.redis
    fields = [
        "commits", "source", "watermark", CONFIG_FIELD, "layout", INCARNATION_FIELD,
        "repeats_to", "deaths", "hand", VERSION_FIELD,
    ]  # fmt: skip
    found = await store.ask(redis.hmget(keys.meta, fields))
    commits, source, watermark, config, layout, incarnation, *others = found
    repeats_to, deaths, hand, version = others
    windows: dict[str, WindowRecord] = {}
    cursor = 0
    while True:
        cursor, found = await store.ask(redis.hscan(keys.open, cursor, count=2000))
        for name, blob in found.items():
            record, problem = read_record(blob)
            if problem:
                await _close_unreadable(store, scope, token, name.decode(), problem)
            else:
                windows[name.decode()] = record
        if cursor == 0:
            break
    if source is None and not may_be_lost:
        await _refuse_lost_position(store, scope, len(windows))
    state = PartitionState(
        source or None,  # empty: nothing was read yet
        int(watermark) if watermark else None,
        windows,
        (config or b"").decode(),
        int(layout or 0),
        (incarnation or b"").decode() if source is not None else "",
        int(repeats_to or 0),
        int(deaths or 0),
        hand or b"",
        (version or b"").decode(),
    )
    return int(commits or 0), state


async def _close_unreadable(
    store: Store, scope: Scope, token: int, window_id: str, problem: str
) -> None:
    """Close an open window whose record cannot be read, under another id: it takes no more
    messages, so that a window of its id may be opened again."""
    keys, other = PartitionKeys(scope), f"{window_id}~{uuid.uuid4().hex[:8]}"
    names = [
        keys.meta, keys.open, keys.deadlines, keys.closed, keys.ready,
        keys.segment(window_id), keys.segment(other), keys.unfinished,
    ]  # fmt: skip
    args: list[Argument] = [token, window_id, other]
    asked = keys.asked(uuid.uuid4().hex)
    if await store.run("close_unreadable_window", names, args, asked=asked):
        _log.error("%s: open window %s closed as %s: %s", scope, window_id, other, problem)


async def _refuse_lost_position(store: Store, scope: Scope, opened: int) -> None:
    """What was never read has no windows: reading it all again would double what they hold.

    Raises:
        LostPositionError: there are windows, so the position was deleted or evicted.
    """
    keys = PartitionKeys(scope)
    closed = int(await store.ask(store.redis.hlen(keys.closed)))
    if opened or closed:
        raise LostPositionError(
            f"{scope}: its position is gone from Redis ({keys.meta}), while {opened}"
            f" open and {closed} closed windows are there. Restore it from a backup, or start"
            f" over with `{reset_command(scope)}`, which brings these windows to their end"
        )


async def prune_configs(store: Store, scope: Scope) -> None:
    """Drop earlier configurations that no window was opened under."""
    keys, redis = PartitionKeys(scope), store.redis
    fields = await store.ask(redis.hkeys(keys.meta))
    start = f"{CONFIG_FIELD}:".encode()
    kept = {field for field in fields if field.startswith(start)}
    if not kept:
        return
    open_records = await store.ask(redis.hvals(keys.open))
    closed = await store.ask(redis.hgetall(keys.closed))
    opened = [read_record(blob) for blob in open_records]
    others = [unpack_closed(name, value) for name, value in closed.items()]
    if any(problem for _, problem in opened) or any(window.problem for window in others):
        return  # who knows what those were opened under
    records = [record for record, _ in opened] + [window.record for window in others]
    unused = kept - {start + record.config.encode() for record in records}
    if unused:
        await store.ask(redis.hdel(keys.meta, *unused))
