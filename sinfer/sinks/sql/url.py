"""URLs of databases whose user and password come from the environment."""

from __future__ import annotations

import re
from urllib.parse import quote

from sinfer.config.secret import resolve_references

_USER = re.compile(r"(?<=://)[^/]*(?=@)")
_REFERENCE = re.compile(r"\$\{\w+\}")
_UNQUOTED = re.compile(r"[@/:?#\[\]\s]|%(?![0-9A-Fa-f]{2})")
"""What no text has that was quoted for a URL."""


def resolved_url(written: str) -> str:
    """The URL with the values of its ``${NAME}`` references.

    Those of user and password may be quoted for a URL or not.

    Raises:
        ValueError: a variable is not set.
    """
    whole = _USER.sub(lambda user: _REFERENCE.sub(_quoted, user[0]), written)
    return resolve_references(whole)


def _quoted(reference: re.Match[str]) -> str:
    value = resolve_references(reference[0])
    return quote(value, safe="") if _UNQUOTED.search(value) else value
