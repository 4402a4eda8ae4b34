"""`sinfer reset`: starting a task over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sinfer import exit_codes
from sinfer.cli.options import json_option

if TYPE_CHECKING:
    from sinfer.cli.connections import Session
    from sinfer.operations.reset import StartedOver
    from sinfer.windows.ids import Scope


@click.command()
@click.option("--product", metavar="NAME", required=True, help="The product of the task.")
@click.option("--task", metavar="ID", required=True, help="The task that starts over.")
@click.option("--partition", metavar="SUBJECT", default=None, help="Only this one; all by default.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def reset(
    ctx: click.Context, product: str, task: str, partition: str | None, yes: bool, as_json: bool
) -> None:
    """Start a task over: read its stream again from where source.deliver says.

    For a stream that was deleted and made again, or to have everything processed once more. Windows
    that are open are closed, and all that was read before is brought to its end under the names
    that it has. Results of what is read from now on have new names: sinks keep them beside the
    earlier ones. A durable consumer is made again, with its settings.

    Ingestors may go on running: they notice within seconds.

    \b
    Example:
      sinfer reset --product example --task ex_1
      sinfer reset --product example --task ex_1 --partition in.w1 --yes --json
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import print_json

    scopes = with_session(lambda session: _scopes(session, product, task, partition))
    if not yes:
        if as_json:
            raise click.UsageError("--json prints no question; give --yes as well", ctx)
        names = ", ".join(scope.partition for scope in scopes)
        click.confirm(f"Start {product}/{task} ({names}) over?", abort=True, err=True)
    done, problems = with_session(lambda session: _reset(session, scopes))
    if as_json:
        print_json([_summary(one) for one in done])
    else:
        for one in done:
            click.echo(_text(one))
    for scope, problem in problems:
        click.echo(f"{scope}: {problem}", err=True)
    if problems:
        ctx.exit(exit_codes.FAILED)


async def _scopes(
    session: Session, product: str, task_id: str, partition: str | None
) -> list[Scope]:
    """The partitions that are meant.

    Raises:
        ConfigError: product, task or partition are not known.
    """
    from sinfer.errors import ConfigError
    from sinfer.windows.ids import Scope

    task = await session.tasks.task(product, task_id)
    name = (await session.tasks.product(product)).name
    subjects = task.source.partition_subjects
    if partition is not None and partition not in subjects:
        raise ConfigError(
            f"task {task_id!r} of product {name!r} has no partition {partition!r}"
            f" (it has: {', '.join(subjects)})"
        )
    return [Scope(name, task_id, s) for s in subjects if partition in (None, s)]


async def _reset(
    session: Session, scopes: list[Scope]
) -> tuple[list[StartedOver], list[tuple[Scope, str]]]:
    """Start partitions over, each whatever becomes of the others."""
    from sinfer.errors import SinferError
    from sinfer.logging.masking import mask
    from sinfer.operations.reset import start_over

    task = await session.tasks.task(scopes[0].product, scopes[0].task)
    done: list[StartedOver] = []
    problems: list[tuple[Scope, str]] = []
    async with session.nats(task) as client:
        for scope in scopes:
            try:
                done.append(await start_over(session.store, client, scope, task))
            except SinferError as error:
                problems.append((scope, mask(str(error))))
    return done, problems


def _summary(one: StartedOver) -> dict[str, Any]:
    return {
        "product": one.scope.product,
        "task": one.scope.task,
        "partition": one.scope.partition,
        "position": one.position,
        "closed": one.closed,
        "waiting": one.waiting,
        "start": one.start,
        "consumer": one.consumer,
    }


def _text(one: StartedOver) -> str:
    made = f" Consumer {one.consumer} was made again." if one.consumer else ""
    return (
        f"{one.scope} starts over; it had been read up to sequence {one.position}."
        f" {one.closed} open windows were closed, {one.waiting} are to be processed yet.{made}"
    )
