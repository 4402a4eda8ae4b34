"""`sinfer up`: a product with everything around it, kept running while it is developed."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sinfer.cli.options import one_product_option
from sinfer.errors import ConfigError

if TYPE_CHECKING:
    from sinfer.embedded.development import DevelopmentStack
    from sinfer.embedded.watching import FileWatcher
    from sinfer.products.product import Product
    from sinfer.products.scenario import Demonstration

_LOOK_S = 0.2
_COLOURS = {
    "ingest": "green",
    "worker": "cyan",
    "beat": "magenta",
    "streams": "blue",
    "flower": "yellow",
}
_WIDTH = max(len(name) for name in _COLOURS)


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
    are free; makes the streams that the tasks need; shows what the processes log; starts them again
    when the product's code changes. Nothing is left behind.

    \b
    Example:
      sinfer up --product example
      sinfer publish --product example --rate 100    (in another terminal)
    """
    from sinfer.embedded.development import DevelopmentStack
    from sinfer.embedded.termination import unwinding_on_signals
    from sinfer.embedded.watching import FileWatcher
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
    ):
        stack.start_servers()
        scenario.prepare(stack.environment)
        _make_streams(stack)
        stack.start_services()
        _say_where(stack)
        with suppress(KeyboardInterrupt):
            _keep(stack, watcher)
        _tell("stopping everything")


def _keep(stack: DevelopmentStack, watcher: FileWatcher) -> None:
    """Show what is logged and follow what changes, until Ctrl-C."""
    while not threading.Event().wait(_LOOK_S):
        for name, line in stack.new_lines():
            _show(name, line)
        for name, last_words in stack.newly_ended().items():
            for line in last_words:
                _show(name, line)
            _tell(f"{name} has ended; it starts again when the code changes")
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
    click.echo(f"{click.style(f'{name:<{_WIDTH}} |', fg=_COLOURS.get(name))} {line}")


def _make_streams(stack: DevelopmentStack) -> None:
    if problem := stack.make_streams():
        _tell(f"streams are not made: {problem}")


def _say_where(stack: DevelopmentStack) -> None:
    _tell(f"Flower is at {stack.flower_url}; files are in {stack.directory}")
    _tell("for other terminals:")
    for name, value in stack.environment.items():
        click.echo(f"  export {name}={value}")


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
