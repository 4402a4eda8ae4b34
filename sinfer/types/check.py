"""What a part says when it is asked, before anything starts, whether it could work."""

from __future__ import annotations

from collections.abc import Iterator
from socket import gaierror
from ssl import SSLCertVerificationError, SSLError
from typing import Literal, NamedTuple

Verdict = Literal["ok", "warning", "error", "unreachable"]


class Checked(NamedTuple):
    """One thing that was found.

    Attributes:
        verdict: ``warning`` works but is risky, ``error`` will not work until somebody changes
            something, ``unreachable`` may work when it is tried again.
        text: what was found, and the remedy where one is needed.
        field: the field of the part's configuration that it is about; empty for all of it.
        is_silent: whether the server gave no answer at all.
    """

    verdict: Verdict
    text: str
    field: str = ""
    is_silent: bool = False


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it, the outermost first."""
    seen = set[int]()
    waiting = [error]
    while waiting:
        found = waiting.pop(0)
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
        waiting += [found.__cause__, found.__context__]


def connection_problem(error: BaseException) -> Checked | None:
    """Why no connection came about, each kind in its own words; None where that is not the matter.

    The text goes behind the name of a server.
    """
    for found in causes(error):
        if isinstance(found, SSLCertVerificationError):
            text = (
                f"shows a certificate that is not trusted ({found.verify_message}); trust the CA"
                " that signed it, or correct the host name"
            )
            return Checked("error", text, is_silent=True)
        if isinstance(found, SSLError):
            reason = getattr(found, "reason", None) or found
            text = f"breaks off TLS ({reason}); is it TLS that is spoken there?"
            return Checked("error", text, is_silent=True)
        if isinstance(found, gaierror):
            text = f"has a name that cannot be resolved ({found.strerror}); correct it"
            return Checked("unreachable", text, is_silent=True)
        if isinstance(found, ConnectionRefusedError):
            text = "refuses connections: nothing listens there; is it running, is the port right?"
            return Checked("unreachable", text, is_silent=True)
        if isinstance(found, ConnectionError):
            text = "closes the connection without an answer; is it another kind of server?"
            return Checked("unreachable", text, is_silent=True)
        if isinstance(found, TimeoutError):
            text = "does not answer in time; does it hang, or does a firewall drop what is sent?"
            return Checked("unreachable", text, is_silent=True)
    return None
