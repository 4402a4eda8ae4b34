"""The few requests of the JetStream API that reading needs, with exact types and clear errors.

nats-py parses times to microseconds and drops fields it does not know. The identity of a stream is
its creation time to the nanosecond, and limits of a consumer must be seen, so the answers are
decoded here.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from nats.aio.client import Client
from nats.errors import ConnectionClosedError, NoRespondersError
from nats.errors import Error as NatsError

from sinfer.errors import SourceError, UnavailableError
from sinfer.nats.client import api_prefix, is_imported
from sinfer.nats.jetstream_types import ConsumerConfig, ConsumerInfo, StreamInfo
from sinfer.nats.subjects import EVERYTHING
from sinfer.nats.whereabouts import no_jetstream, not_there, says_not_enabled

_ACKS_TIMEOUT_S = 1.0
"""Nobody answers such a message; that nobody is there is told at once."""

_FIELDS = "source."
_STREAM_MISSING = 10059
_CONSUMER_MISSING = 10014
_NO_MESSAGE = 10037

_REMEDIES = {
    10013: "another consumer of that name has other settings; name another source.durable",
    10026: "raise the stream's max_consumers or remove consumers that are not in use",
    10093: "correct source.subject, or add the subject to the stream",
    10099: "another consumer reads this work queue: name it as source.durable, or remove it",
    10100: "another consumer reads this subject of the work queue: name it as source.durable,"
    " read another subject, or remove it",
    10101: "a work queue can only be read from its start: use deliver: all",
    10148: "a consumer of that name has other settings; name another source.durable",
}


class StoredMessage(msgspec.Struct):
    """A message as the stream keeps it; headers and payload are in base64."""

    seq: int
    subject: str = ""
    time: str = ""
    hdrs: str = ""
    data: str = ""


class _MessageAnswer(msgspec.Struct):
    message: StoredMessage


class _Failure(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _Answer(msgspec.Struct):
    error: _Failure | None = None


A = TypeVar("A")


class JetStreamApi:
    """Requests about one stream.

    Every method raises ``UnavailableError`` when no answer comes or JetStream is not ready, and
    ``SourceError`` when the server refuses; the text says what to do.

    Args:
        client: a connection; not closed here.
        stream: name of the stream.
        timeout_s: how long to wait for an answer.
    """

    def __init__(self, client: Client, stream: str, timeout_s: float = 5.0) -> None:
        self._client = client
        self._prefix = api_prefix(client)
        self.stream = stream
        self._timeout_s = timeout_s

    @property
    def is_connected(self) -> bool:
        """Whether a request can be answered at all at the moment."""
        return bool(self._client.is_connected)

    def subject_of(self, request: str) -> str:
        """The subject on which a request of the JetStream API is made."""
        return f"{self._prefix}.{request}"

    async def stream_info(self) -> StreamInfo:
        """The stream's settings and bounds.

        Raises:
            SourceError: the stream does not exist.
        """
        info = await self._request(f"STREAM.INFO.{self.stream}", None, StreamInfo, _STREAM_MISSING)
        if info is None:
            raise await self._stream_missing()
        return info

    async def consumer_info(self, consumer: str) -> ConsumerInfo | None:
        """A consumer's settings and place; None when there is no such consumer.

        Raises:
            SourceError: the stream does not exist.
        """
        subject = f"CONSUMER.INFO.{self.stream}.{consumer}"
        return await self._request(subject, None, ConsumerInfo, _CONSUMER_MISSING)

    async def create_consumer(self, config: ConsumerConfig) -> ConsumerInfo:
        """Create a consumer; one of the same name and other settings is not touched.

        Raises:
            SourceError: the server refuses these settings.
        """
        body = {"stream_name": self.stream, "config": config, "action": "create"}
        subject = f"CONSUMER.CREATE.{self.stream}.{config.name}"
        if config.filter_subject:
            subject += f".{config.filter_subject}"
        info = await self._request(subject, body, ConsumerInfo)
        assert info is not None
        return info

    async def delete_consumer(self, consumer: str) -> None:
        """Delete a consumer, if it exists."""
        subject = f"CONSUMER.DELETE.{self.stream}.{consumer}"
        await self._request(subject, None, _Answer, _CONSUMER_MISSING)

    async def check_acks(self, consumer: str) -> None:
        """Where the API is imported from another account, see that acknowledgements arrive there.

        Raises:
            SourceError: they do not, so that every message would come again and again.
        """
        if not is_imported(self._client):
            return
        subject = f"$JS.ACK.{self.stream}.{consumer}"
        try:  # about no message at all
            await self._client.request(f"{subject}.1.0.0.0.0", b"+WPI", timeout=_ACKS_TIMEOUT_S)
        except NoRespondersError:
            raise SourceError(
                f"consumer {consumer!r} of stream {self.stream!r}: acknowledgements do not reach"
                f" its account; import {subject}.> from there under this very name, and export it"
            ) from None
        except (NatsError, TimeoutError):
            return

    async def next_message(self, first: int, filters: list[str]) -> StoredMessage | None:
        """The first stored message from a sequence on that matches a filter.

        Args:
            first: where to begin.
            filters: subjects; empty for all.
        """
        found = []
        for subject in filters or [EVERYTHING]:
            message = await self.stored_message({"seq": first, "next_by_subj": subject})
            if message is not None:
                found.append(message)
        return min(found, key=lambda message: message.seq, default=None)

    async def stored_message(self, which: dict[str, Any]) -> StoredMessage | None:
        """One message of the stream; None when there is none like that.

        Args:
            which: the body of the request, as the JetStream API defines it.
        """
        path = f"STREAM.MSG.GET.{self.stream}"
        answer = await self._request(path, which, _MessageAnswer, _NO_MESSAGE)
        return None if answer is None else answer.message

    async def _request(
        self, subject: str, body: Any, answer_type: type[A], missing: int | None = None
    ) -> A | None:
        payload = b"" if body is None else msgspec.json.encode(body)
        try:
            reply = await self._client.request(
                self.subject_of(subject), payload, timeout=self._timeout_s
            )
        except NoRespondersError as error:
            raise UnavailableError(await no_jetstream(self._client, _FIELDS)) from error
        except ConnectionClosedError as error:
            raise UnavailableError("the NATS connection is closed") from error
        except (NatsError, TimeoutError) as error:
            request = self.subject_of(subject.split("." + self.stream)[0])
            raise UnavailableError(
                f"JetStream did not answer {request} in {self._timeout_s:g} s; is the server"
                " overloaded, or does this user lack the permission?"
            ) from error
        failure = msgspec.json.decode(reply.data, type=_Answer).error
        if failure is None:
            return msgspec.json.decode(reply.data, type=answer_type)
        if failure.err_code == missing:
            return None
        raise await self._refused(subject, failure)

    async def _refused(self, subject: str, failure: _Failure) -> SourceError | UnavailableError:
        if failure.err_code == _STREAM_MISSING:
            return await self._stream_missing()
        if says_not_enabled(failure.err_code):
            return UnavailableError(await no_jetstream(self._client, _FIELDS))
        text = f"{failure.description} (error {failure.err_code})"
        if failure.code in (408, 500, 503):
            return UnavailableError(f"stream {self.stream!r}: {text}")
        what = "consumer" if subject.startswith("CONSUMER.") else "stream"
        remedy = _REMEDIES.get(failure.err_code)
        advice = f"; {remedy}" if remedy else ""
        return SourceError(f"stream {self.stream!r}: the {what} was refused: {text}{advice}")

    async def _stream_missing(self) -> SourceError:
        where, advice = await not_there(self._client, _FIELDS)
        return SourceError(
            f"stream {self.stream!r} does not exist in {where}; create it or correct"
            f" source.stream{advice}"
        )
