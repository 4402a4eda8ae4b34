"""NATS subjects with wildcards: whether one covers another, and names made of them."""

from __future__ import annotations

import re
import zlib

EVERYTHING = ">"
"""The filter that matches every subject."""


def covers(outer: str, inner: str) -> bool:
    """Whether every subject that matches ``inner`` also matches ``outer``; both may be patterns."""
    outers, inners = outer.split("."), inner.split(".")
    for place, token in enumerate(outers):
        if token == ">":
            return len(inners) > place
        if place >= len(inners) or inners[place] == ">":
            return False
        if token != "*" and token != inners[place]:
            return False
    return len(outers) == len(inners)


def overlap(one: str, other: str) -> bool:
    """Whether some subject matches both patterns."""
    ones, others = one.split("."), other.split(".")
    for mine, theirs in zip(ones, others, strict=False):
        if ">" in (mine, theirs):
            return True
        if mine != theirs and "*" not in (mine, theirs):
            return False
    return len(ones) == len(others)


def consumer_name(*parts: str) -> str:
    """A valid consumer name of any texts; different texts give different names.

    What a consumer name cannot hold becomes ``-``, and then a checksum keeps the names apart.
    """
    text = "_".join(parts)
    clean = re.sub(r"[^A-Za-z0-9_-]", "-", text)[:120]
    return clean if clean == text else f"{clean}-{zlib.crc32(text.encode()):08x}"
