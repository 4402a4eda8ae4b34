"""Log lines of processes as they come, without the noise that Celery makes around them."""

from __future__ import annotations

import re
from pathlib import Path

_STAMP = re.compile(r"\d{4}-\d\d-\d\dT|\[[DIWEC] \d{6} ")
_NOISE = re.compile(
    r"beat: Scheduler: Sending due task tick"  # several times a second
    r"|Task sinfer\.(tick|process)\["
    r"|^\[[DIW] \d{6} "  # Flower asks workers that are not there yet
)


class LogLines:
    """Gives the lines of a log that came since it was last asked.

    What comes before the first line with a time is held back: it is a banner, or the reason why the
    process ends.

    Args:
        path: the file; it may come later.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.begin()

    def begin(self) -> None:
        """The file was emptied, for a process that starts again."""
        self._at = 0
        self._rest = b""
        self._banner: list[str] | None = []
        self._shows = True

    def new(self) -> list[str]:
        """New whole lines that say something, without their ends."""
        return [line for line in self._read() if self._says_something(line)]

    def held_back(self) -> list[str]:
        """What the process said before it ended."""
        banner, self._banner = self._banner or [], None
        return [line for line in banner if line.strip()]

    def _read(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._at)
                found = file.read()
        except FileNotFoundError:
            return []
        self._at += len(found)
        *whole, self._rest = (self._rest + found).split(b"\n")
        return [line.decode(errors="replace") for line in whole]

    def _says_something(self, line: str) -> bool:
        if _STAMP.match(line):
            self._banner = None
            self._shows = not _NOISE.search(line)
        elif self._banner is not None:
            self._banner.append(line)
            return False
        return self._shows  # lines that follow, as of a traceback, go with theirs
