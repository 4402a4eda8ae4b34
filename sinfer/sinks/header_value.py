"""Any text as a header: values carry printable ASCII only, names are tokens of it."""

from __future__ import annotations

import string
from urllib.parse import quote

_TOKEN = string.ascii_letters + string.digits + "!#$&'*+-.^_`|~"
_PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "


def header_value(text: str) -> str:
    """The text itself where a header can carry it, else with the other characters as ``%XX``."""
    if text.isascii() and text.isprintable():
        return text
    return quote(text, safe=_PRINTABLE)


def header_name(text: str) -> str:
    """The name itself where a header can have it, else with the other characters as ``%XX``."""
    return quote(text, safe=_TOKEN)
