"""Whether the jetstream sink could publish: a stream covers its subject, and the user may."""

from __future__ import annotations

import nats.errors
from nats.js.api import StreamConfig
from nats.js.errors import APIError, NotFoundError

from sinfer.config.jetstream_place import NatsPlace
from sinfer.errors import AccessError, ConfigError, SinkUnavailableError, UnavailableError
from sinfer.nats.client import is_imported
from sinfer.nats.rights import Rights
from sinfer.nats.whereabouts import is_not_enabled, no_jetstream, not_there
from sinfer.sinks.jetstream.publish_acks import no_stream, wrong_stream
from sinfer.types.check import Checked

SHORTEST_DUPLICATE_WINDOW_S = 120.0
"""Streams that know copies for less may take a result twice that is written again."""


async def checked_subject(
    place: NatsPlace, subject: str, stream: str | None, timeout_s: float
) -> list[Checked]:
    """Ask JetStream about a subject, and publish nothing there.

    Args:
        place: where JetStream is.
        subject: where results go.
        stream: the stream that has to cover it; None for any.
        timeout_s: longest wait for an answer.
    """
    try:
        rights = await Rights.connect(place)
    except (ConfigError, AccessError) as error:
        return [Checked("error", str(error), "servers")]
    except UnavailableError as error:
        return [Checked("unreachable", str(error), "servers", is_silent=True)]
    try:
        return await _look(rights, place, subject, stream, timeout_s)
    finally:
        await rights.aclose()


async def _look(
    rights: Rights, place: NatsPlace, subject: str, stream: str | None, timeout_s: float
) -> list[Checked]:
    if rights.deafness:
        return [Checked("error", rights.deafness, "servers")]
    jetstream = rights.client.jetstream(timeout=timeout_s)
    found = await _rights(rights, subject)
    try:
        name = await jetstream.find_stream_name_by_subject(subject)
        config = (await jetstream.stream_info(name)).config
    except NotFoundError:
        if is_imported(rights.client):
            text = f"no stream has {subject!r} under that name; its account may know it by another"
            return [*found, Checked("warning", text, "subject")]
        missing = no_stream(subject, *await not_there(rights.client, ""))
        return [*found, Checked("error", str(missing), "subject")]
    except nats.errors.Error as error:
        if isinstance(error, APIError) and is_not_enabled(error):
            text = await no_jetstream(rights.client, "")
            return [*found, Checked("error", text, "servers")]
        # Who may only publish cannot ask, and needs not.
        why = rights.forbidden[-1] if rights.forbidden else (str(error) or type(error).__name__)
        text = f"which stream has {subject!r} cannot be asked ({why}); its settings are not known"
        return [*found, Checked("warning", text, "subject")]
    found += _settings(name, config, subject, stream)
    return found or [Checked("ok", f"{place.shown}: stream {name!r} stores {subject!r}")]


async def _rights(rights: Rights, subject: str) -> list[Checked]:
    if await rights.may_publish(subject) is False:
        text = f"this user may not publish to {subject!r}; allow it, or name another user"
        return [Checked("error", text, "subject")]
    return []


def _settings(name: str, config: StreamConfig, subject: str, stream: str | None) -> list[Checked]:
    if stream is not None and name != stream:
        return [Checked("error", str(wrong_stream(subject, name, stream)), "stream")]
    if config.no_ack:
        return [Checked("error", str(no_acks(name)), "subject")]
    if config.sealed:
        return [Checked("error", f"stream {name!r} is sealed and takes nothing more", "subject")]
    duplicate_window_s = config.duplicate_window or 0
    if duplicate_window_s < SHORTEST_DUPLICATE_WINDOW_S:
        text = (
            f"stream {name!r} knows copies for {duplicate_window_s:g}s only: results that are"
            " written again later are stored twice; set its duplicate_window to 2m or more"
        )
        return [Checked("warning", text, "subject")]
    return []


def no_acks(stream: str) -> SinkUnavailableError:
    """The error for a stream that says of nothing whether it has it."""
    return SinkUnavailableError(
        f"stream {stream!r} acknowledges nothing (no_ack); results need one that does"
    )
