"""A watermark that a wrong event time pushed ahead, and many late messages, are told in status."""

from __future__ import annotations

import pytest

from sinfer.operations.status import standing
from sinfer.store.connection import Store
from sinfer.store.keys import PartitionKeys
from sinfer.windows.ids import Scope


@pytest.mark.parametrize(
    ("ahead_ms", "late", "told"),
    [
        (-5_000, 0, []),
        (500, 9, []),
        (3_540_000, 0, ["in.>: the watermark is 35"]),
        (-5_000, 358, ["358 of 370 messages came too late"]),
        (-5_000, 18, []),
    ],
)
async def test_wrong_event_times_are_told_by_what_they_do(
    store: Store, unique: str, ahead_ms: int, late: int, told: list[str]
) -> None:
    scope = Scope(unique, "t", "in.>")
    watermark = await store.now_ms() + ahead_ms
    fields = {"fetched": 370, "late": late, "watermark": watermark, "source": ""}
    words = [word for pair in fields.items() for word in map(str, pair)]
    await store.redis.execute_command("HSET", PartitionKeys(scope).meta, *words)  # type: ignore[no-untyped-call]
    [task] = await standing(store, [scope])
    found = [text for text in task.trouble if "late" in text]
    assert len(found) == len(told)
    assert all(text.startswith(start) for text, start in zip(found, told, strict=True))
