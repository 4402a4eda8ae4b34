"""Progress of `sinfer demo` on the terminal: messages going in, results coming out."""

from __future__ import annotations

import json
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_SHOWN = 5


class TerminalProgress:
    """Two bars and the first few results, on stderr.

    Args:
        quiet: show nothing.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        self._messages: int | None = None
        self._results: int | None = None
        self._left_to_show = _SHOWN
        self._started = False

    def say(self, text: str) -> None:
        """A step begins."""
        self._console.print(f"[dim]·[/] {escape(text)}")

    def expect(self, messages: int, results: int) -> None:
        """How many there will be; comes before any of them."""
        self._messages, self._results = messages, results

    def published(self, count: int) -> None:
        """So many more messages are stored."""
        self._start()
        self._bars.advance(self._in, count)

    def arrived(self, results: list[Any]) -> None:
        """These results have arrived."""
        self._start()
        for result in results[: self._left_to_show]:
            self._console.print(f"[dim]·[/] result {escape(json.dumps(result))}")
        self._left_to_show = max(0, self._left_to_show - len(results))
        self._bars.advance(self._out, len(results))

    def finish(self) -> None:
        """Leave the bars as they are."""
        if self._started:
            self._bars.stop()
            self._started = False

    def _start(self) -> None:
        if not self._started:
            self._in = self._bars.add_task("messages published", total=self._messages)
            self._out = self._bars.add_task("results arrived   ", total=self._results)
            self._bars.start()
            self._started = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.finish()
