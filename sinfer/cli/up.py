"""`sinfer up`: a product with everything around it, kept running while it is developed."""

from __future__ import annotations

import re
import shlex
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sinfer.cli.options import one_product_option
from sinfer.errors import ConfigError

if TYPE_CHECKING:
    import asyncio

    from sinfer.embedded.development import DevelopmentStack
    from sinfer.embedded.file_watch import FileWatcher
    from sinfer.operations.events import Happening, Happenings
    from sinfer.products.product import Product
    from sinfer.products.scenario import Demonstration

_LOOK_S = 0.2
_COLOURS = {
    "ingest": "green",
    "worker": "cyan",
    "window": "white",
    "beat": "magenta",
    "streams": "blue",
    "flower": "yellow",
}
_WIDTH = max(len(name) for name in _COLOURS)
_LEVEL = re.compile(r"\S+ (WARNING|ERROR|CRITICAL) \S+: ")
"""How a line of a log begins that tells of something wrong."""


@click.command()
@one_product_option
@click.option(
    "--watch",
    multiple=True,
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Restart when code in here changes too; the product's own folder always counts.",
)
def up(product: str, watch: tuple[Path, ...]) -> None:
    """Run a product with everything around it, until Ctrl-C.

    Starts NATS, Redis, a model server, and sinfer's own processes, on the usual ports where these
    are free; makes the streams that the tasks need; prints a line for each window that is done, and
    what the processes log; starts them again when the product's code changes. Other terminals work
    with all of it after the one `source` line that it prints. Nothing is left behind.

    \b
    Example:
      sinfer up --product example
      sinfer publish --product example --rate 100    (in another terminal)
    """
    import asyncio

    from sinfer.embedded.development import DevelopmentStack
    from sinfer.embedded.file_watch import FileWatcher
    from sinfer.embedded.termination import unwinding_on_signals
    from sinfer.products.registry import find_product, modules_with
    from sinfer.settings import settings

    found = find_product(product, settings().products)
    scenario = _demonstration(found)
    watcher = FileWatcher([_folder(found), *watch], [".py", ".yaml", ".yml"])
    with (
        unwinding_on_signals(),
        DevelopmentStack(
            product,
            environment=scenario.environment,
            model_module=scenario.model_server,
            modules=modules_with(product, settings().products),
            tell=_tell,
        ) as stack,
        asyncio.Runner() as runner,
    ):
        for problem in stack.problems():
            _complain(problem)
        stack.start_servers()
        scenario.prepare(stack.environment)
        _make_streams(stack)
        stack.start_services()
        _say_where(stack)
        windows = _Windows(runner, stack)
        with suppress(KeyboardInterrupt):
            _keep(stack, watcher, windows)
        windows.close()
        _tell("stopping everything")


class _Windows:
    """Shows the windows that are done, and what was given up.

    Args:
        runner: runs what asks Redis.
        stack: has that Redis.
    """

    def __init__(self, runner: asyncio.Runner, stack: DevelopmentStack) -> None:
        self._runner = runner
        self._url = stack.environment["SINFER_REDIS_URL"]
        self._happenings: Happenings | None = None

    def show(self) -> None:
        """Print what is new."""
        from sinfer.cli.output import printable
        from sinfer.errors import SinferError

        with suppress(SinferError):  # whatever ails Redis is told by those who need it
            for happening in self._runner.run(self._new()):
                text = printable(happening.text)
                _complain(text) if happening.is_bad else _show("window", text)

    def close(self) -> None:
        """Close the connection to Redis."""
        if self._happenings is not None:
            self._runner.run(self._happenings.aclose())

    async def _new(self) -> list[Happening]:
        from sinfer.operations.events import Happenings
        from sinfer.store.connection import Store

        if self._happenings is None:
            self._happenings = Happenings(Store(self._url))
        return await self._happenings.new()


def _keep(stack: DevelopmentStack, watcher: FileWatcher, windows: _Windows) -> None:
    """Show what is logged and what is done, and follow what changes, until Ctrl-C."""
    while not threading.Event().wait(_LOOK_S):
        windows.show()
        for name, line in stack.new_lines():
            _show(name, line)
        for name, last_words in stack.newly_ended().items():
            for line in last_words:
                _show(name, line)
            _complain(f"{name} has ended; it starts again when the code changes")
        changed = watcher.changed()
        if not changed:
            continue
        names = ", ".join(sorted(path.name for path in changed))
        if any(path.suffix == ".py" for path in changed):
            _tell(f"{names} changed: starting again")
            _make_streams(stack)
            stack.restart()
        else:
            _tell(f"{names} changed: its tasks follow by themselves")


def _show(name: str, line: str) -> None:
    if found := _LEVEL.match(line):
        level = f"{found[1]}: "
        colour = "yellow" if found[1] == "WARNING" else "red"
        line = click.style(level + line[found.end() :], fg=colour, bold=True)
    click.echo(f"{click.style(f'{name:<{_WIDTH}} |', fg=_COLOURS.get(name))} {line}")


def _complain(problem: str) -> None:
    """An error, where it cannot be overlooked."""
    click.secho(f"{'error':<{_WIDTH}} | {problem}", fg="red", bold=True)


def _make_streams(stack: DevelopmentStack) -> None:
    if problem := stack.make_streams():
        _complain(f"streams are not made: {problem}")


def _say_where(stack: DevelopmentStack) -> None:
    _tell(f"Flower is at {stack.flower_url}; files are in {stack.directory}")
    _tell(f"in other terminals: source {shlex.quote(str(stack.write_exports()))}")


def _tell(text: str) -> None:
    click.echo(click.style(f"{'sinfer':<{_WIDTH}} | {text}", bold=True))


def _demonstration(product: Product) -> Demonstration:
    """What the product ships for a demonstration, or what does for one that ships nothing."""
    from sinfer.products.scenario import Demonstration, demonstration_of

    try:
        return demonstration_of(product)
    except ConfigError:
        return Demonstration(
            product=product.name, streams={}, environment=lambda model, database: {}
        )


def _folder(product: Product) -> Path:
    """Where the product's code is."""
    file = sys.modules[product.pipeline.__module__].__file__
    if file is None:
        raise ConfigError(f"product {product.name!r} has no files")
    return Path(file).parent
