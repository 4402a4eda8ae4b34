"""Which JetStream was asked, in words: for errors about what is not there.

A stream that somebody sees with his own tools is often in another domain or account than the one
that was asked. So these errors say which one that was, and which field names another.
"""

from __future__ import annotations

import msgspec
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from sinfer.nats_client import CarefulClient
from sinfer.nats_place import NatsPlace

ACCOUNT_REQUEST = "$SYS.REQ.USER.INFO"
"""Tells a user about itself; who may not ask is not told."""

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
    account = await _account(client)
    domain = client.server_domain if isinstance(client, CarefulClient) else ""
    has_own = not place.domain and not place.prefix
    details = [f"domain {domain!r}"] if domain and has_own else []
    details += [f"account {account!r}"] if account not in ("", _GLOBAL_ACCOUNT) else []
    where = place.shown + (f" ({', '.join(details)})" if details else "")
    if place.prefix:
        return where, f"; or correct {fields}api_prefix"
    if place.domain:
        return where, f"; or correct {fields}domain"
    if not details:
        return where, ""
    return where, (
        f"; if it is in another domain or account, set {fields}domain or {fields}api_prefix"
    )


async def no_jetstream(client: Client, fields: str) -> str:
    """What to tell when nobody answers for JetStream at all; as ``not_there``."""
    place = client.place if isinstance(client, CarefulClient) else NatsPlace(())
    assert place is not None
    if place.domain:
        return (
            f"{place.shown} does not answer; correct {fields}domain, or is the leaf node that it is"
            " behind not connected?"
        )
    if place.prefix:
        return (
            f"{place.shown} does not answer; correct {fields}api_prefix, or import the API of that"
            " account under it"
        )
    account = await _account(client)
    told = f" for account {account!r}" if account not in ("", _GLOBAL_ACCOUNT) else ""
    return (
        f"{place.shown} is not enabled{told}, or not ready; start nats-server with -js or a"
        f" jetstream block, or enable it for the account; where it is in another domain or account,"
        f" set {fields}domain or {fields}api_prefix"
    )


def is_not_enabled(error: APIError) -> bool:
    """Whether an error of nats-py says that there is no JetStream: no answer, or a refusal."""
    return error.code is None or error.err_code in _NOT_ENABLED


def says_not_enabled(err_code: int) -> bool:
    """Whether an error code of the JetStream API says that there is none."""
    return err_code in _NOT_ENABLED


async def _account(client: Client) -> str:
    try:
        answer = await client.request(ACCOUNT_REQUEST, b"", timeout=_TIMEOUT_S)
        return msgspec.json.decode(answer.data, type=_UserAnswer).data.account
    except (NatsError, TimeoutError, msgspec.MsgspecError):
        return ""
