"""JSON from strangers is refused in one way, whatever is wrong with it."""

from __future__ import annotations

import pytest

from sinfer.encoding import from_json


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"nan", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(text)
