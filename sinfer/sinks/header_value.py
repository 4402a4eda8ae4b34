"""Ids as values of headers, which carry printable ASCII only."""

from __future__ import annotations

import string
from urllib.parse import quote

_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "


def header_value(text: str) -> str:
    """The text itself where a header can carry it, else with the other characters as ``%XX``."""
    if text.isascii() and text.isprintable():
        return text
    return quote(text, safe=_PRINTABLE)
