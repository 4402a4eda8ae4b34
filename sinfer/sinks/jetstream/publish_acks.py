"""Which messages of a group JetStream has acknowledged, and what its refusals mean."""

from __future__ import annotations

import asyncio

from sinfer.config.jetstream_place import NatsPlace
from sinfer.encoding import from_json
from sinfer.errors import SinkError, SinkRejectedError, SinkUnavailableError

_PASSING_CODES = {408, 409, 429}
"""Client errors of JetStream that pass: time-out, copy being stored, too many requests."""

_PASSING_ERRORS = {10002, 10109}
"""Errors of code 400 that somebody can put right: limits of the account, a sealed stream."""

_MESSAGE_ERRORS = {10054, 10097}
"""Errors that tell of a message: it, or its headers, are larger than the stream takes. Other client
errors may tell of a message, or of the stream."""

DUPLICATE = b'"duplicate"'
"""What an answer has in it that says that the stream has the message already."""


class AckedGroup:
    """Messages published together, and one future for all of their acknowledgements.

    Args:
        commands: the messages, encoded; kept so that those without an ack can be sent again.
        subject: for texts.
        stream: the stream that must have stored them; None for any.
        place: where that is; None for wherever. Streams of several domains may store what is
            published, and only that of this one counts.

    Attributes:
        done: done when every message is acknowledged or refused for good, or fails with the first
            answer that says that it cannot be stored now. It fails as well when all are refused and
            it is not clear that the messages are to blame.
        refused: messages that will never be stored, by their places, and why.
        there: messages that the stream says it has, by their places, and their sequences in it.
        stream: the stream that answered so; empty while none has.
        elsewhere: who else has stored some of them, for people; empty while nobody has.
        sent_twice: whether some were sent again since the connection was lost.
        commands: the messages as they are sent.
        expected: what an answer begins with that says nothing but that a message is stored.
        domain: what such an answer has in it; empty for nothing.
        plain: places of messages with such answers, until they are counted: ``settle``, once there
            are ``left`` of them.
        acked: by place, whether an answer is counted.
        left: messages without a counted answer.
    """

    __slots__ = (
        "_doubtful", "_place", "_stream", "_subject", "acked", "commands", "domain", "done",
        "elsewhere", "expected", "left", "plain", "refused", "sent_twice", "stream", "there",
    )  # fmt: skip

    def __init__(
        self,
        commands: list[bytes],
        subject: str,
        stream: str | None,
        place: NatsPlace | None = None,
    ) -> None:
        self.commands = commands
        self._subject = subject
        self._stream = stream
        self._place = place
        self.domain = f'"domain":"{place.domain}"'.encode() if place and place.domain else b""
        self.expected = f'{{"stream":"{stream}"'.encode() if stream else b'{"stream":"'
        self.acked = bytearray(len(commands))
        self.left = len(commands)
        self._doubtful: set[int] = set()
        self.plain: set[int] = set()
        self.refused: dict[int, str] = {}
        self.there: dict[int, int] = {}
        self.stream = ""
        self.sent_twice = False
        self.elsewhere = ""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __len__(self) -> int:
        return len(self.acked)

    @property
    def unacked(self) -> list[bytes]:
        """The messages that have no acknowledgement yet."""
        if self.done.done():
            return []
        self._count_plain()
        return [c for c, acked in zip(self.commands, self.acked, strict=True) if not acked]

    def settle(self) -> None:
        """Count the plain answers: they are all that was left."""
        if not self.done.done():
            self._count_plain()
            self._end()

    def _count_plain(self) -> None:
        for place in self.plain:
            self.acked[place] = 1
        self.left -= len(self.plain)
        self.plain.clear()

    def take(self, place: int, answer: bytes, status: str | None) -> None:
        """Take the answer to one message.

        Args:
            place: of the message in the group.
            answer: the payload of the answer.
            status: the status header of an answer that the server made up by itself.
        """
        self._count_plain()
        if self.done.done() or self.acked[place]:
            return
        if self.domain and self.domain not in answer and self._is_of_another_domain(answer):
            return
        # Not to parse JSON for each message: an ack begins with the stream, a refusal does not.
        if not answer.startswith(self.expected):
            self._note_refusal(place, answer, status)
            if self.done.done():
                return
        if DUPLICATE in answer and place not in self.refused:
            ack = from_json(answer)
            if ack.get("duplicate"):
                self.there[place], self.stream = int(ack.get("seq", 0)), str(ack.get("stream"))
        self.acked[place] = 1
        self.left -= 1
        self._end()

    def _end(self) -> None:
        if self.left == 0 and len(self._doubtful) == len(self):
            # Whatever was published: the last answer stands for all.
            self.fail(SinkUnavailableError([*self.refused.values()][-1]))
        elif self.left == 0:
            self.done.set_result(None)
            self.commands = []

    def _note_refusal(self, place: int, answer: bytes, status: str | None) -> None:
        """Take an answer that may be a refusal: of the message, or of all that is published."""
        refusal, is_certain = self._refusal(answer, status)
        if isinstance(refusal, SinkRejectedError):
            self.refused[place] = str(refusal)
            if not is_certain:
                self._doubtful.add(place)
        elif refusal is not None:
            self.fail(refusal)

    def fail(self, error: SinkError) -> None:
        """Give the group up."""
        if not self.done.done():
            self.done.set_exception(error)
            # Marks it as seen: whoever waited may have left already.
            self.done.exception()

    def _is_of_another_domain(self, answer: bytes) -> bool:
        """Whether a stream of another domain has answered, which counts for nothing."""
        try:
            ack = from_json(answer)
            stream, domain, error = ack.get("stream"), ack.get("domain", ""), ack.get("error")
        except (ValueError, AttributeError):
            return False
        assert self._place is not None
        if domain == self._place.domain or (error is not None and not domain):
            return False
        self.elsewhere = f"stream {stream!r} of domain {domain!r}"
        return True

    def _refusal(self, answer: bytes, status: str | None) -> tuple[SinkError | None, bool]:
        """What an answer that is no plain ack says, and whether that tells of the message."""
        if status == "503":
            return no_stream(self._subject, self._place.shown if self._place else ""), False
        try:
            ack = from_json(answer)
            error, stream = ack.get("error"), ack.get("stream")
        except (ValueError, AttributeError):
            stranger = SinkUnavailableError(
                f"{self._subject!r}: somebody other than JetStream answered {answer[:80]!r};"
                " who replies on that subject?"
            )
            return stranger, False
        if error is not None:
            code, number = error.get("code", 0), error.get("err_code")
            text = (
                f"JetStream refuses a result for {self._subject!r}: {error.get('description')}"
                f" (code {code}, error {number})"
            )
            is_passing = code in _PASSING_CODES or number in _PASSING_ERRORS
            if is_passing or not 400 <= code < 500:
                return SinkUnavailableError(text), False
            return SinkRejectedError(text), number in _MESSAGE_ERRORS
        if self._stream is not None and stream != self._stream:
            return wrong_stream(self._subject, stream, self._stream), False
        return None, False


class NoStreamError(SinkUnavailableError):
    """Nobody stores a subject."""


def no_stream(subject: str, where: str = "", advice: str = "") -> NoStreamError:
    """The error for a subject that nobody stores.

    Args:
        subject: the subject.
        where, advice: as ``not_there`` tells them.
    """
    told = f" in {where}" if where else ""
    return NoStreamError(
        f"no stream covers subject {subject!r}{told}, or it has no leader now; create one that has"
        f" this subject, or correct 'subject' of the sink{advice}"
    )


def wrong_stream(subject: str, found: object, expected: str) -> SinkUnavailableError:
    """The error for a subject that another stream than the configured one stores."""
    return SinkUnavailableError(
        f"subject {subject!r} is covered by stream {found!r}, not by {expected!r};"
        " correct 'subject' or 'stream' of the sink"
    )
