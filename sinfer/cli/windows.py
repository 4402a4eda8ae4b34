"""`sinfer windows`: the finished windows that the ledger still has, and running one again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sinfer import exit_codes
from sinfer.cli.options import json_option, product_option, task_option

if TYPE_CHECKING:
    from sinfer.cli.connections import Session
    from sinfer.windows.ledger import Finished


@click.group()
def windows() -> None:
    """Finished windows: what was in them, how long they took, and once more.

    \b
    Example:
      sinfer windows list --task ex_1
      sinfer windows rerun ex_1/in.w1/all/1
    """


def _summary(finished: Finished) -> dict[str, Any]:
    entry = finished.entry
    return {
        "window": entry.window,
        "product": finished.scope.product,
        "task": finished.scope.task,
        "partition": finished.scope.partition,
        "key": entry.key,
        "start_ms": entry.start_ms,
        "end_ms": entry.end_ms,
        "revision": entry.revision,
        "close_reason": entry.reason,
        "kind": entry.kind,
        "first_seq": entry.first_seq,
        "last_seq": entry.last_seq,
        "count": entry.count,
        "bytes": entry.bytes,
        "dead": entry.dead,
        "attempts": entry.attempts,
        "closed_ms": entry.closed_ms,
        "waited_ms": max(0, entry.claimed_ms - entry.closed_ms),
        "inference_ms": entry.inference_ms,
        "sinks_ms": entry.sinks_ms,
        "done_ms": finished.done_ms,
        "model": entry.model,
    }


@windows.command("list")
@product_option
@task_option
@click.option("--limit", default=50, show_default=True, type=click.IntRange(min=1))
@json_option
def list_(product: str | None, task: str | None, limit: int, as_json: bool) -> None:
    """List finished windows, the latest first.

    \b
    Example:
      sinfer windows list --task ex_1 --limit 10
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import moment, print_json, print_table
    from sinfer.operations.products import known_scopes
    from sinfer.windows.ledger import read_ledger

    async def run(session: Session) -> list[Finished]:
        found: list[Finished] = []
        for scope in await known_scopes(session.store, product, task):
            of_scope = 0
            async for finished in read_ledger(session.store, scope):
                found.append(finished)
                of_scope += 1
                if of_scope >= limit:
                    break
        return sorted(found, key=lambda finished: -finished.done_ms)[:limit]

    found = with_session(run)
    if as_json:
        print_json([_summary(finished) for finished in found])
    elif not found:
        click.echo("No finished windows.")
    else:
        print_table(
            ["WINDOW", "DONE", "COUNT", "DEAD", "REASON", "TRIES", "WAITED MS", "MODEL MS",
             "SINKS MS", "MODEL"],
            (
                [s["window"], moment(s["done_ms"]), s["count"], s["dead"], s["close_reason"],
                 s["attempts"], s["waited_ms"], s["inference_ms"], s["sinks_ms"], s["model"]]
                for s in map(_summary, found)
            ),
        )  # fmt: skip


async def _find(session: Session, window_id: str, product: str | None) -> Finished | None:
    from sinfer.operations.products import known_scopes
    from sinfer.operations.rerunning import find_window
    from sinfer.windows.ids import unescape

    task = unescape(window_id.partition("/")[0])
    scopes = await known_scopes(session.store, product, task)
    return await find_window(session.store, scopes, window_id)


def _missing(ctx: click.Context, window_id: str) -> None:
    click.echo(
        f"The ledger has no window {window_id}: it is not done, or was done longer ago than"
        " the ledger goes back (limits.ledger). `sinfer where` finds messages.",
        err=True,
    )
    ctx.exit(exit_codes.FAILED)


@windows.command()
@click.argument("window")
@product_option
@json_option
@click.pass_context
def show(ctx: click.Context, window: str, product: str | None, as_json: bool) -> None:
    """Show a finished window.

    \b
    Example:
      sinfer windows show ex_1/in.w1/all/1
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import moment, print_json

    finished = with_session(lambda session: _find(session, window, product))
    if finished is None:
        _missing(ctx, window)
        return
    summary = _summary(finished)
    if as_json:
        print_json({**summary, "sequences": list(finished.entry.sequences)})
        return
    for name, value in summary.items():
        shown = moment(value) if name in ("start_ms", "end_ms", "closed_ms", "done_ms") else value
        click.echo(f"{name + ':':<13} {shown}")


@windows.command()
@click.argument("window")
@product_option
@click.option("--wait", is_flag=True, help="Wait until it is done once more.")
@click.pass_context
def rerun(ctx: click.Context, window: str, product: str | None, wait: bool) -> None:
    """Process a finished window again: the same messages and ids, by the task as it is now.

    Its messages are read from the stream. Sinks that know ids replace what they have; a JetStream
    sink drops results as copies while the stream's duplicate_window lasts.

    \b
    Example:
      sinfer windows rerun ex_1/in.w1/all/1 --wait
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.progress import bar
    from sinfer.operations.rerunning import rerun as run_again
    from sinfer.operations.rerunning import wait_until_done

    async def run(session: Session) -> bool:
        finished = await _find(session, window, product)
        if finished is None:
            return False
        task = await session.tasks.task(finished.scope.product, finished.scope.task)
        async with session.nats(task) as client:
            with bar("reading messages", finished.entry.count) as advance:
                stored_id = await run_again(session.store, client, finished, task, advance)
        if wait:
            await wait_until_done(session.store, finished.scope, stored_id)
        return True

    if not with_session(run):
        _missing(ctx, window)
    click.echo(f"{window} {'was processed' if wait else 'is to be processed'} again.")
