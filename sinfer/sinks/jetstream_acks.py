"""Which messages of a group JetStream has acknowledged, and what its refusals mean."""

from __future__ import annotations

import asyncio

from sinfer.encoding import from_json
from sinfer.errors import SinkError, SinkRejectedError, SinkUnavailableError

_PASSING_CODES = {408, 409, 429}
"""Client errors of JetStream that pass: time-out, copy being stored, too many requests."""

_PASSING_ERRORS = {10002, 10109}
"""Errors of code 400 that somebody can put right: limits of the account, a sealed stream."""


_DUPLICATE = b'"duplicate"'


class AckedGroup:
    """Messages published together, and one future for all of their acknowledgements.

    Args:
        commands: the messages, encoded; kept so that those without an ack can be sent again.
        subject: for texts.
        stream: the stream that must have stored them; None for any.

    Attributes:
        done: done when every message is acknowledged or refused for good, or fails with the first
            answer that says that it cannot be stored now.
        refused: messages that will never be stored, by their places, and why.
        there: messages that the stream says it has, by their places, and their sequences in it.
        stream: the stream that answered so; empty while none has.
        sent_twice: whether some were sent again since the connection was lost.
    """

    __slots__ = (
        "_acked", "_commands", "_expected", "_left", "_stream", "_subject", "done", "refused",
        "sent_twice", "stream", "there",
    )  # fmt: skip

    def __init__(self, commands: list[bytes], subject: str, stream: str | None) -> None:
        self._commands = commands
        self._subject = subject
        self._stream = stream
        self._expected = f'{{"stream":"{stream}"'.encode() if stream else b'{"stream":"'
        self._acked = bytearray(len(commands))
        self._left = len(commands)
        self.refused: dict[int, str] = {}
        self.there: dict[int, int] = {}
        self.stream = ""
        self.sent_twice = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __len__(self) -> int:
        return len(self._acked)

    @property
    def unacked(self) -> list[bytes]:
        """The messages that have no acknowledgement yet."""
        if self.done.done():
            return []
        return [c for c, acked in zip(self._commands, self._acked, strict=True) if not acked]

    def take(self, place: int, answer: bytes, status: str | None) -> None:
        """Take the answer to one message.

        Args:
            place: of the message in the group.
            answer: the payload of the answer.
            status: the status header of an answer that the server made up by itself.
        """
        if self.done.done() or self._acked[place]:
            return
        # Not to parse JSON for each message: an ack begins with the stream, a refusal does not.
        if not answer.startswith(self._expected):
            refusal = self._refusal(answer, status)
            if isinstance(refusal, SinkRejectedError):
                self.refused[place] = str(refusal)
            elif refusal is not None:
                self.fail(refusal)
                return
        if _DUPLICATE in answer and place not in self.refused:
            ack = from_json(answer)
            if ack.get("duplicate"):
                self.there[place], self.stream = int(ack.get("seq", 0)), str(ack.get("stream"))
        self._acked[place] = 1
        self._left -= 1
        if self._left == 0:
            self.done.set_result(None)
            self._commands = []

    def fail(self, error: SinkError) -> None:
        """Give the group up."""
        if not self.done.done():
            self.done.set_exception(error)
            # Marks it as seen: whoever waited may have left already.
            self.done.exception()

    def _refusal(self, answer: bytes, status: str | None) -> SinkError | None:
        if status == "503":
            return no_stream(self._subject)
        try:
            ack = from_json(answer)
            error, stream = ack.get("error"), ack.get("stream")
        except (ValueError, AttributeError):
            return SinkUnavailableError(
                f"{self._subject!r}: somebody other than JetStream answered {answer[:80]!r};"
                " who replies on that subject?"
            )
        if error is not None:
            code = error.get("code", 0)
            text = (
                f"JetStream refuses a result for {self._subject!r}: {error.get('description')}"
                f" (code {code}, error {error.get('err_code')})"
            )
            passing = code in _PASSING_CODES or error.get("err_code") in _PASSING_ERRORS
            lasting = 400 <= code < 500 and not passing
            return SinkRejectedError(text) if lasting else SinkUnavailableError(text)
        if self._stream is not None and stream != self._stream:
            return wrong_stream(self._subject, stream, self._stream)
        return None


def no_stream(subject: str) -> SinkUnavailableError:
    """The error for a subject that nobody stores."""
    return SinkUnavailableError(
        f"no stream covers subject {subject!r}; create one that has this subject,"
        " or correct 'subject' of the sink"
    )


def wrong_stream(subject: str, found: object, expected: str) -> SinkUnavailableError:
    """The error for a subject that another stream than the configured one stores."""
    return SinkUnavailableError(
        f"subject {subject!r} is covered by stream {found!r}, not by {expected!r};"
        " correct 'subject' or 'stream' of the sink"
    )
