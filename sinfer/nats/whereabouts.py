"""Which JetStream was asked, in words: for errors about what is not there.

A stream that somebody sees with his own tools is often in another domain or account than the one
that was asked. So these errors say which one that was, and which field names another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError, NoStreamResponseError

from sinfer.config.jetstream_place import NatsPlace
from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.client import CarefulClient

ACCOUNT_REQUEST = "$SYS.REQ.USER.INFO"
"""Tells a user about itself; who may not ask is not told."""

OF_SETTINGS = "SINFER_NATS_"
"""What the names of settings begin with that name another JetStream."""

_GLOBAL_ACCOUNT = "$G"
_TIMEOUT_S = 1.0
_NOT_ENABLED = {10039, 10076}


class _User(msgspec.Struct):
    account: str = ""


class _UserAnswer(msgspec.Struct):
    data: _User = msgspec.field(default_factory=_User)


async def not_there(client: Client, fields: str) -> tuple[str, str]:
    """What to tell of something that a JetStream has not.

    Args:
        client: the connection through which it was asked.
        fields: what the fields that name another JetStream begin with, such as ``source.``.

    Returns:
        Where it was looked for, and what may be done besides creating it; the latter may be empty.
    """
    place = client.place if isinstance(client, CarefulClient) else None
    if place is None:
        return "JetStream", ""
    domain_field, prefix_field = _fields(fields)
    account = await _account(client)
    domain = client.server_domain if isinstance(client, CarefulClient) else ""
    has_own = not place.domain and not place.prefix
    details = [f"domain {domain!r}"] if domain and has_own else []
    details += [f"account {account!r}"] if account not in ("", _GLOBAL_ACCOUNT) else []
    where = place.shown + (f" ({', '.join(details)})" if details else "")
    if place.prefix:
        return where, f"; or correct {prefix_field}"
    if place.domain:
        return where, f"; or correct {domain_field}"
    if not details:
        return where, ""
    return where, (f"; if it is in another domain or account, set {domain_field} or {prefix_field}")


async def no_jetstream(client: Client, fields: str) -> str:
    """What to tell when nobody answers for JetStream at all; as ``not_there``."""
    place = (client.place if isinstance(client, CarefulClient) else None) or NatsPlace(())
    domain_field, prefix_field = _fields(fields)
    if place.domain:
        return (
            f"{place.shown} does not answer; correct {domain_field}, or is the leaf node that it is"
            " behind not connected?"
        )
    if place.prefix:
        return (
            f"{place.shown} does not answer; correct {prefix_field}, or import the API of that"
            " account under it"
        )
    account = await _account(client)
    told = f" for account {account!r}" if account not in ("", _GLOBAL_ACCOUNT) else ""
    return (
        f"{place.shown} is not enabled{told}, or not ready; start nats-server with -js or a"
        f" jetstream block, or enable it for the account; where it is in another domain or account,"
        f" set {domain_field} or {prefix_field}"
    )


@asynccontextmanager
async def errors_told(
    client: Client, what: str, fields: str = "SINFER_NATS_"
) -> AsyncIterator[None]:
    """Around requests of nats-py to JetStream: what it raises, in sinfer's words.

    Args:
        client: whose JetStream is asked.
        what: is being done, as errors begin.
        fields: what the names of the settings that name another JetStream begin with.

    Raises:
        UnavailableError: there is no JetStream, or it does not answer.
        SourceError: it refuses.
    """
    try:
        yield
    except NoStreamResponseError:
        where, advice = await not_there(client, fields)
        raise SourceError(
            f"{what}: no stream takes the subject in {where}; create one{advice}"
        ) from None
    except APIError as error:
        if is_not_enabled(error):
            raise UnavailableError(await no_jetstream(client, fields)) from error
        raise SourceError(f"{what}: {error.description} (error {error.err_code})") from error
    except (NatsError, TimeoutError) as error:
        raise UnavailableError(f"{what}: {error or type(error).__name__}") from error


def is_not_enabled(error: APIError) -> bool:
    """Whether an error of nats-py says that there is no JetStream: no answer, or a refusal."""
    return error.code is None or error.err_code in _NOT_ENABLED


def says_not_enabled(err_code: int) -> bool:
    """Whether an error code of the JetStream API says that there is none."""
    return err_code in _NOT_ENABLED


def _fields(beginning: str) -> tuple[str, str]:
    """The fields that name a domain and a prefix."""
    if beginning == OF_SETTINGS:
        return f"{OF_SETTINGS}DOMAIN", f"{OF_SETTINGS}API_PREFIX"
    return f"{beginning}domain", f"{beginning}api_prefix"


async def _account(client: Client) -> str:
    try:
        answer = await client.request(ACCOUNT_REQUEST, b"", timeout=_TIMEOUT_S)
        return msgspec.json.decode(answer.data, type=_UserAnswer).data.account
    except (NatsError, TimeoutError, msgspec.MsgspecError):
        return ""
