"""What lasts and keeps something from moving: told in the log and by `sinfer status`, in one text.

What an ingestor meets that somebody has to put right, or wait for, is told here and nowhere else. A
log line alone is for what is over when it is told.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from sinfer.logging.throttled import AGAIN_S, Throttled

_log = logging.getLogger(__name__)

FADES_S = 2 * AGAIN_S
"""A trouble whose end nobody notices is over when it was not met for so long."""


@dataclass(slots=True)
class _Trouble:
    text: str
    log: Throttled
    met_s: float = 0.0
    fades: bool = False


class Troubles:
    """Those of one ingestor."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Trouble] = {}

    def of(self, partition: str) -> PartitionTroubles:
        """Those of one partition, or with an empty name of the whole process."""
        return PartitionTroubles(self, partition)

    def tell(
        self,
        partition: str,
        what: str,
        text: str,
        *,
        level: int | None = logging.WARNING,
        once: bool = False,
        fades: bool = False,
    ) -> None:
        """It begins, is another than before, or lasts. The log has it then, and each minute.

        Args:
            partition: the partition that it is about; empty for the whole process.
            what: which trouble it is; there is one of each at a time.
            text: why something does not move, and the remedy where one is needed.
            level: of the log line; None where the log has another one.
            once: whether the log has its beginning only, as where the text has a count in it.
            fades: whether nobody notices when it is over.
        """
        known = self._known.setdefault((partition, what), _Trouble(text, Throttled(_log)))
        known.text, known.met_s, known.fades = text, time.monotonic(), fades
        if level is not None:
            shown = f"{partition}: {text}" if partition else text
            known.log.tell(shown, level=level, once=once)

    def over(self, partition: str, what: str, text: str = "") -> None:
        """It is over; the log says so where there was one.

        Args:
            partition, what: see ``tell``.
            text: what goes on; nothing is logged without.
        """
        if self._known.pop((partition, what), None) is not None and text:
            _log.info("%s", f"{partition}: {text}" if partition else text)

    def clear(self, partition: str) -> None:
        """The partition is somebody else's now, and so is what troubles it."""
        self._known = {key: known for key, known in self._known.items() if key[0] != partition}

    def all(self) -> dict[str, list[str]]:
        """What there is at the moment, by partition; under an empty name that of the process."""
        now_s = time.monotonic()
        self._known = {
            key: known
            for key, known in self._known.items()
            if not known.fades or now_s - known.met_s < FADES_S
        }
        found: dict[str, list[str]] = {}
        for (partition, _), known in self._known.items():
            found.setdefault(partition, []).append(known.text)
        return found


class PartitionTroubles:
    """Those of one partition, by the methods of ``Troubles`` without its name."""

    def __init__(self, troubles: Troubles, partition: str) -> None:
        self._troubles, self._partition = troubles, partition

    def tell(
        self,
        what: str,
        text: str,
        *,
        level: int | None = logging.WARNING,
        once: bool = False,
        fades: bool = False,
    ) -> None:
        """See ``Troubles.tell``."""
        self._troubles.tell(self._partition, what, text, level=level, once=once, fades=fades)

    def over(self, what: str, text: str = "") -> None:
        """See ``Troubles.over``."""
        self._troubles.over(self._partition, what, text)

    def clear(self) -> None:
        """See ``Troubles.clear``."""
        self._troubles.clear(self._partition)
