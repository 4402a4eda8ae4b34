"""`sinfer pause`, `sinfer resume`, `sinfer drain`: stopping and going on, without a restart."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Literal

import click

from sinfer import exit_codes
from sinfer.cli.options import one_product_option, task_option

if TYPE_CHECKING:
    from sinfer.cli.connections import Session

_POLL_S = 0.25


async def _check_names(session: Session, product: str, task: str | None) -> None:
    """A name that is misspelt would pause nothing."""
    await session.tasks.product(product, given=True)
    if task is not None:
        await session.tasks.task(product, task)


async def _pause(
    session: Session,
    product: str,
    task: str | None,
    reason: str,
    what: Literal["all", "processing", "drain"],
) -> int:
    """Pause, and return since when."""
    from sinfer.store.boards.pauses import Pause, PauseBoard

    await _check_names(session, product, task)
    now_ms = await session.store.now_ms()
    await PauseBoard(session.store).pause(product, task, Pause(reason, now_ms, what))
    return now_ms


def _name(product: str, task: str | None) -> str:
    return product if task is None else f"{product}/{task}"


@click.command()
@one_product_option
@task_option
@click.option(
    "--reason", default="by hand", show_default=True, metavar="TEXT", help="`status` shows it."
)
@click.option("--processing", is_flag=True, help="Go on reading; only workers stop.")
def pause(product: str, task: str | None, reason: str, processing: bool) -> None:
    """Stop a task or a whole product until it is resumed; restarts do not end that.

    \b
    Example:
      sinfer pause --product example --task ex_1 --reason "model is replaced"
    """
    from sinfer.cli.connections import with_session

    what: Literal["all", "processing"] = "processing" if processing else "all"
    with_session(lambda session: _pause(session, product, task, reason, what))
    click.echo(f"{_name(product, task)} is paused.")


@click.command()
@one_product_option
@task_option
def resume(product: str, task: str | None) -> None:
    """End a pause or a drain of a task; without --task, of the product and all its tasks.

    \b
    Example:
      sinfer resume --product example
    """
    from sinfer.cli.connections import with_session
    from sinfer.store.boards.pauses import PauseBoard

    async def run(session: Session) -> list[str]:
        board = PauseBoard(session.store)
        await board.refresh()
        ended = []
        for name, paused in board.all():
            if name == product and task in (None, paused) and await board.resume(name, paused):
                ended.append(_name(name, paused))
        if task is not None and (product, None) in board.all():
            click.echo(f"{product} itself is paused; resume it without --task.", err=True)
        return ended

    ended = with_session(run)
    click.echo(f"{', '.join(ended)} goes on." if ended else "Nothing was paused.")


@click.command()
@one_product_option
@task_option
@click.option(
    "--timeout",
    default="60s",
    show_default=True,
    metavar="DURATION",
    help="How long to wait for what is there to be done.",
)
@click.pass_context
def drain(ctx: click.Context, product: str, task: str | None, timeout: str) -> None:
    """Stop reading, close what is open, and wait until workers are done with all of it.

    Ends with 0 when nothing is left, with 1 when the time is over. Reading stays stopped until
    `sinfer resume`.

    \b
    Example:
      sinfer drain --product example --timeout 5m && sinfer resume --product example
    """
    from sinfer.cli.connections import with_session
    from sinfer.config.units import parse_duration

    try:
        timeout_s = parse_duration(timeout).total_seconds()
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param_hint="--timeout") from None
    left, unread = with_session(lambda session: _drain(session, product, task, timeout_s))
    for scope, problem in unread.items():
        click.echo(f"{scope} cannot be drained: {problem}", err=True)
    if left:
        click.echo(
            f"{left} windows of {_name(product, task)} are left; they go on."
            " Do workers and beat run, and is the model there? See `sinfer status`.",
            err=True,
        )
    if left or unread:
        ctx.exit(exit_codes.FAILED)
    click.echo(f"{_name(product, task)} is empty; `sinfer resume` goes on.")


async def _drain(
    session: Session, product: str, task: str | None, timeout_s: float
) -> tuple[int, dict[str, str]]:
    """Drain; returns how many windows are left, and the partitions that cannot be read."""
    import asyncio

    from sinfer.cli.progress import bar
    from sinfer.errors import StaleTokenError, UnavailableError, WindowConflictError
    from sinfer.hooks.call import describe
    from sinfer.operations.drain import close_unattended
    from sinfer.operations.products import known_scopes
    from sinfer.store.partition.snapshot import snapshot

    since_ms = await _pause(session, product, task, "drain by hand", "drain")
    owner = f"drain-{uuid.uuid4().hex}"
    deadline = time.monotonic() + timeout_s
    with bar("windows", None) as advance:
        before: int | None = None
        unread: dict[str, str] = {}
        while True:
            scopes = await known_scopes(session.store, product, task)
            left, unread = 0, {}
            for scope in scopes:
                try:
                    there = await snapshot(session.store, scope)
                    left += there.sizes.open + there.sizes.closed
                    if there.sizes.open:
                        await close_unattended(session.store, scope, owner)
                    elif not there.is_drained(since_ms):
                        left += 1  # its ingestor has not seen it yet and may open windows
                except (StaleTokenError, WindowConflictError):
                    continue  # an ingestor or beat closes them
                except UnavailableError:
                    raise
                except Exception as error:  # one that cannot be read keeps no other from its end
                    unread[str(scope)] = describe(error)
            if before is not None:
                advance(max(0, before - left))
            before = left
            if not left or time.monotonic() > deadline:
                return left, unread
            await asyncio.sleep(_POLL_S)
