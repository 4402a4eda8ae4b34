"""`sinfer demo`: all of sinfer on this machine, with real messages, every result checked."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from sinfer import exit_codes

if TYPE_CHECKING:
    from sinfer.embedded.stack import EmbeddedStack


@click.command()
@click.option(
    "--product", default="example", show_default=True, metavar="NAME", help="What is shown."
)
@click.option(
    "--messages",
    default=10_000,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1),
    help="How many are published, about.",
)
@click.option("--keep", is_flag=True, help="Leave everything running until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def demo(ctx: click.Context, product: str, messages: int, keep: bool, as_json: bool) -> None:
    """Run everything on this machine and check every result.

    Starts NATS, Redis, a model server, and sinfer's own processes on free ports; publishes
    messages; makes sure that each has exactly one correct result in each sink; stops it all.
    Ends with 0 when it has, with 1 when something is missing.

    \b
    Example:
      sinfer demo
      sinfer demo --messages 100000 --keep
      sinfer demo --product soe
    """
    import asyncio

    from sinfer.demo.progress import TerminalProgress
    from sinfer.demo.run import demonstrate, prepare
    from sinfer.embedded.stack import EmbeddedStack
    from sinfer.embedded.termination import unwinding_on_signals
    from sinfer.products.registry import find_product, modules_with
    from sinfer.products.scenario import demonstration_of
    from sinfer.settings import settings

    scenario = demonstration_of(find_product(product, settings().products))
    modules = modules_with(product, settings().products)
    with (
        unwinding_on_signals(),
        TerminalProgress(quiet=as_json) as progress,
        EmbeddedStack(scenario, tell=progress.say, modules=modules) as stack,
    ):
        stack.start_servers()
        asyncio.run(prepare(stack, scenario))
        stack.start_services()
        progress.say(f"running; Flower is at {stack.flower_url}")
        report = asyncio.run(demonstrate(stack, scenario, messages, progress))
        progress.finish()
        if as_json:
            click.echo(json.dumps(report.as_dict(), indent=2))
        else:
            click.echo("\n".join(report.lines()))
        if keep:
            _keep(stack, quiet=as_json)
        progress.say("stopping everything")
    ctx.exit(exit_codes.OK if report.is_right else exit_codes.FAILED)


def _keep(stack: EmbeddedStack, *, quiet: bool) -> None:
    """Wait for Ctrl-C, which is how a kept demonstration ends.

    Raises:
        UnavailableError: a process ended by itself.
    """
    if not quiet:
        click.echo(f"\nEverything keeps running; Ctrl-C stops it. Files: {stack.directory}")
        for name, value in stack.environment.items():
            click.echo(f"  export {name}={value}")
    with suppress(KeyboardInterrupt):
        while not threading.Event().wait(1):
            stack.check()
