"""How a room lists what it uses of a library that the library does not promise to keep."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrivateName:
    """A private or undocumented name of a library.

    Attributes:
        name: with its module and class, such as ``nats.aio.client.Client._read_loop``.
        why: what it is used for.
        until: what the library would have to do for it to be used no longer.
    """

    name: str
    why: str
    until: str
