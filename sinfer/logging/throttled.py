"""A problem that lasts, in the log: told as it begins or changes, each minute, and when it ends."""

from __future__ import annotations

import logging
import time

AGAIN_S = 60.0
"""How often a problem is told while it lasts."""

_NEVER_S = float("-inf")


class Throttled:
    """The log lines of one problem at a time. Whoever meets it calls ``tell``, however often.

    Args:
        log: the logger of whoever meets it.
    """

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._problem = ""
        self._began_s = self._told_s = _NEVER_S

    @property
    def lasted_s(self) -> float:
        """How long there has been a problem, seconds; 0 where there is none."""
        return time.monotonic() - self._began_s if self._began_s != _NEVER_S else 0.0

    def tell(
        self,
        text: str,
        *,
        level: int = logging.WARNING,
        problem: str | None = None,
        once: bool = False,
        error: BaseException | None = None,
    ) -> bool:
        """Log the problem, unless it was told within the last minute.

        Args:
            text: what to tell.
            level: of the log line.
            problem: what makes it another problem; the text, unless that has a count in it.
            once: whether it is told when it begins, and then no more.
            error: an error whose traceback is logged with it.

        Returns:
            Whether it was told now.
        """
        now_s = time.monotonic()
        is_new = self._began_s == _NEVER_S
        is_other = self._problem != (text if problem is None else problem)
        if not is_new and (once or not (is_other or now_s - self._told_s >= AGAIN_S)):
            return False
        self._problem = text if problem is None else problem
        self._began_s = now_s if is_new else self._began_s
        self._told_s = now_s
        self._log.log(level, "%s", text, exc_info=error)
        return True

    def over(self, text: str = "") -> bool:
        """There is no problem, or no longer.

        Args:
            text: logged where there was one; nothing is logged without.

        Returns:
            Whether there was one.
        """
        had_one = self._began_s != _NEVER_S
        self._problem = ""
        self._began_s = self._told_s = _NEVER_S
        if had_one and text:
            self._log.info("%s", text)
        return had_one
