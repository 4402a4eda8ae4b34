"""Components of names: written so that they can be joined by ``/`` and told apart again.

They are percent-encoded (RFC 3986), so that no two differ in meaning and agree in text. Braces are
encoded too, which keeps them out of Redis hash tags.
"""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, unquote

_SAFE = "*@:+,=!$~"


@lru_cache(maxsize=4096)
def escape(component: str) -> str:
    """One component of a name: letters, digits and ``-._*@:+,=!$~`` stay, the rest is ``%XX``."""
    return quote(component, safe=_SAFE, errors="surrogatepass")


def unescape(component: str) -> str:
    """The inverse of ``escape``."""
    return unquote(component, errors="surrogatepass")
