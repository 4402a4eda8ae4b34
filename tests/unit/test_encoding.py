"""JSON from strangers is refused in one way, whatever is wrong with it."""

from __future__ import annotations

import math

import pytest

from sinfer.encoding import from_foreign_json, from_json


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"nan", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        from_json(text)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"\xff", b"nan", b"[" * 100_000, b"[1,]", b"\xef\xbb\xbf"]
)
def test_what_is_no_json_in_any_servers_eyes_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        from_foreign_json(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_model_servers_may_write_what_is_no_number(encoding: str) -> None:
    text = '{"y": [NaN, Infinity, -Infinity, 1e999, 0.5, "ä"]}'.encode(encoding)
    nan, *others = from_foreign_json(text)["y"]
    assert math.isnan(nan)
    assert others == [math.inf, -math.inf, math.inf, 0.5, "ä"]
