"""`sinfer write-off`: messages that are gone for good, and that somebody has taken note of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sinfer.cli.options import json_option, one_product_option, task_option

if TYPE_CHECKING:
    from sinfer.cli.connections import Session
    from sinfer.types.gone import Gone
    from sinfer.windows.ids import Scope


@click.command("write-off")
@one_product_option
@task_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def write_off(ctx: click.Context, product: str, task: str | None, yes: bool, as_json: bool) -> None:
    """Count messages that are gone for good as missing no longer.

    They were delivered, a failover, a power cut or a restored backup of Redis took them, and the
    stream has them no more. `sinfer audit`, `sinfer status` and the metrics tell of them until they
    are written off; publish them again before, if somebody else has them.

    \b
    Example:
      sinfer write-off --product example --task ex_1
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import print_json

    gone = with_session(lambda session: _gone(session, product, task))
    if gone and not yes:
        if as_json:
            raise click.UsageError("--json prints no question; give --yes as well", ctx)
        for scope, ranges in gone.items():
            click.echo(_line(scope, ranges), err=True)
        click.confirm("Write these messages off?", abort=True, err=True)
    done = with_session(lambda session: _write_off(session, list(gone)))
    if as_json:
        print_json(
            [
                {
                    **scope._asdict(),
                    "messages": sum(one.messages for one in ranges),
                    "sequences": [[one.first, one.last] for one in ranges],
                }
                for scope, ranges in done.items()
            ]
        )
        return
    for scope, ranges in done.items():
        click.echo(f"{_line(scope, ranges)}: written off")
    if not done:
        click.echo("Nothing is gone.")


def _line(scope: Scope, gone: list[Gone]) -> str:
    messages = sum(one.messages for one in gone)
    return f"{scope}: {messages} messages, sequences {', '.join(map(str, gone))}"


async def _gone(session: Session, product: str, task: str | None) -> dict[Scope, list[Gone]]:
    from sinfer.operations.products import known_scopes
    from sinfer.store.partition.snapshot import snapshot

    found = {}
    for scope in await known_scopes(session.store, product, task):
        if gone := (await snapshot(session.store, scope)).gone:
            found[scope] = gone
    return found


async def _write_off(session: Session, scopes: list[Scope]) -> dict[Scope, list[Gone]]:
    from sinfer.store.partition.gone_messages import GoneMessages

    done = {}
    for scope in scopes:
        if gone := await GoneMessages(session.store, scope).write_off():
            done[scope] = gone
    return done
