"""What a Celery message may say: anyone who can write to the broker can say anything."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from sinfer.errors import InvalidItemError
from sinfer.windows.ids import Scope

_MOST_WINDOWS = 1_000_000_000


class _Hint(msgspec.Struct):
    """The fields of a hint; those of later versions are left aside."""

    product: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    task: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    partition: Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
    windows: Annotated[int, msgspec.Meta(ge=0, le=_MOST_WINDOWS)]


def read_hint(fields: dict[str, Any]) -> tuple[Scope, int]:
    """The partition that a hint is about, and how many windows waited there.

    Raises:
        InvalidItemError: it is no hint.
    """
    try:
        hint = msgspec.convert(fields, _Hint)
    except msgspec.ValidationError as error:
        raise InvalidItemError(f"a Celery message is no hint of sinfer's: {error}") from None
    return Scope(hint.product, hint.task, hint.partition), hint.windows
