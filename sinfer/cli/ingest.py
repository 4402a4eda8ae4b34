"""`sinfer ingest`: read a product's streams into its windows."""

from __future__ import annotations

import click

from sinfer.cli.options import one_product_option


@click.command()
@one_product_option
@click.option(
    "--task", metavar="ID", default=None, help="Only this task; all of the product by default."
)
def ingest(product: str, task: str | None) -> None:
    """Read a product's streams into its windows, until SIGTERM or Ctrl-C.

    Start as many as you like: they share the tasks, and take over from each other.

    \b
    Example:
      sinfer ingest --product example
      sinfer ingest --product my_package.my_product --task ex_1
    """
    from sinfer.ingest.service import run
    from sinfer.logging.setup import set_up_logging
    from sinfer.settings import settings
    from sinfer.tasks.hints import open_hints

    set_up_logging(settings().log_level, settings().log_format)
    with open_hints() as hints:
        run(product, hints, task)
