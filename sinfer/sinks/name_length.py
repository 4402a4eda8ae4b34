"""Names that have to fit into a column or a header: too long ones end in a checksum."""

from __future__ import annotations

from hashlib import blake2b

_DIGEST_BYTES = 16
SHORTEST = 2 * _DIGEST_BYTES + 16
"""Fewer characters than this cannot keep names apart and tell anything."""


def fitted(name: str, length: int) -> str:
    """The name itself, or its beginning and a checksum of the whole where it is longer.

    Different names stay different, and the same name is shortened in the same way everywhere.

    Args:
        name: the name.
        length: most characters of the result, at least ``SHORTEST``.
    """
    if len(name) <= length:
        return name
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
    return f"{name[: length - len(digest) - 1]}~{digest}"
