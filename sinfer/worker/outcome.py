"""What became of a window's items, and how that is kept for later attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from sinfer.types.result import ResultRow
from sinfer.windows.dead_letters import Stage, one_line


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """Items without a result.

    Attributes:
        first, last: their places among the window's messages, inclusive.
        stage: where they failed.
        error: why, in one line.
    """

    first: int
    last: int
    stage: Stage
    error: str

    @classmethod
    def at(cls, first: int, last: int, stage: Stage, error: str) -> Failure:
        """A failure whose reason is made one line of bounded length."""
        return cls(first, last, stage, one_line(error))


class Refused(msgspec.Struct, array_like=True, frozen=True):
    """A result that a sink will never take.

    Attributes:
        ordinal: of the result, as in ``Outcome.rows``.
        error: which sinks and why, in one line.
        by_fallback: whether the fallback refused it as well.
    """

    ordinal: int
    error: str
    by_fallback: bool = False

    def also(self, error: str, *, by_fallback: bool = False) -> Refused:
        """The same, refused by one more."""
        text = one_line(f"{self.error}; {error}" if self.error else error)
        return Refused(self.ordinal, text, self.by_fallback or by_fallback)


class Outcome(msgspec.Struct, array_like=True):
    """What became of the items of a window.

    Attributes:
        rows: results, in order of their ordinals.
        failures: items that were given up.
        retries: items that ``build_results`` wants to be tried again.
        model: name or version of the model, where its answers tell.
        refused: results that sinks refused, which have taken the others, and that no fallback has.
        confirmed: results that sinks took, by what they say of them: new, there already, and not
            stored since something else has their key.
        filtered: places of messages that ``preprocess`` filters out here, and did not at ingest.
    """

    rows: list[ResultRow] = []
    failures: list[Failure] = []
    retries: list[Failure] = []
    model: str = ""
    refused: list[Refused] = []
    confirmed: tuple[int, int, int] = (0, 0, 0)
    filtered: list[int] = []


@dataclass(frozen=True, slots=True)
class WindowEnd:
    """How one try of a window ended, in a few words.

    Attributes:
        results: how many sinks have.
        dead: messages that were given up.
        error: why the first of them was.
        again: why the window is tried again; empty when it is done.
    """

    results: int = 0
    dead: int = 0
    error: str = ""
    again: str = ""

    def __str__(self) -> str:
        dead = f", {self.dead} dead letters: {self.error}" if self.dead else ""
        return f"{self.results} results{dead}"


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Outcome)


pack_outcome: Callable[[Outcome], bytes] = _encoder.encode
"""Encode an outcome for the store."""

unpack_outcome: Callable[[bytes], Outcome] = _decoder.decode
"""Decode an outcome."""
