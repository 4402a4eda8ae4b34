"""`sinfer windows`: finished windows, running one again, and windows that were set aside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

from sinfer import exit_codes
from sinfer.cli.options import json_option, product_option, task_option

if TYPE_CHECKING:
    from sinfer.cli.connections import Session
    from sinfer.store.history.ledger import Finished
    from sinfer.store.work.set_aside import SetAside
    from sinfer.windows.ids import Scope


@click.group()
def windows() -> None:
    """Finished windows: what was in them, how long they took, and once more.

    A window whose messages are not all in Redis any more is set aside: it is not processed until it
    is rebuilt from the stream, or given up.

    \b
    Example:
      sinfer windows list --task ex_1
      sinfer windows rerun ex_1/in.w1/all/1
      sinfer windows rebuild --all
    """


def _summary(finished: Finished) -> dict[str, Any]:
    entry = finished.entry
    return {
        "window": entry.window,
        "state": "done",
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


def _aside_summary(aside: SetAside) -> dict[str, Any]:
    record = aside.window.record
    return {
        "window": aside.window.id,
        "state": "set aside",
        "product": aside.scope.product,
        "task": aside.scope.task,
        "partition": aside.scope.partition,
        "key": record.key,
        "start_ms": record.start_ms,
        "end_ms": record.end_ms,
        "revision": record.revision,
        "close_reason": aside.window.reason,
        "first_seq": record.first_seq,
        "last_seq": record.last_seq,
        "count": record.count,
        "bytes": record.bytes,
        "closed_ms": aside.window.closed_ms,
        "since_ms": aside.since_ms,
        "reason": aside.damage.reason,
        "gone": aside.damage.sequences,
        "gone_unknown": aside.damage.unknown,
    }


async def _latest(session: Session, scope: Scope, limit: int) -> list[Finished]:
    """The windows of a partition that ended last, the latest first."""
    from sinfer.store.history.ledger import read_ledger

    found: list[Finished] = []
    async for finished in read_ledger(session.store, scope):
        found.append(finished)
        if len(found) >= limit:
            break
    return found


async def _unreadable(session: Session, scope: Scope) -> list[dict[str, Any]]:
    from sinfer.store.partition.snapshot import snapshot

    return [
        {"window": window, "state": "unreadable", **scope._asdict(), "reason": why}
        for window, why in (await snapshot(session.store, scope)).unreadable.items()
    ]


@windows.command("list")
@product_option
@task_option
@click.option(
    "--limit",
    default=50,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most windows to show.",
)
@click.option("--aside", "only_aside", is_flag=True, help="Only those that are set aside.")
@json_option
def list_(
    product: str | None, task: str | None, limit: int, only_aside: bool, as_json: bool
) -> None:
    """List windows that are set aside or cannot be read, then finished ones, the latest first.

    \b
    Example:
      sinfer windows list --task ex_1 --limit 10
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import moment, print_json, print_table
    from sinfer.operations.audit import describe
    from sinfer.operations.products import known_scopes
    from sinfer.operations.rebuild import find_aside

    async def run(session: Session) -> tuple[list[SetAside], list[dict[str, Any]], list[Finished]]:
        scopes = await known_scopes(session.store, product, task)
        aside = await find_aside(session.store, scopes)
        if only_aside:
            return aside, [], []
        found = [one for s in scopes for one in await _latest(session, s, limit)]
        unread = [row for s in scopes for row in await _unreadable(session, s)]
        return aside, unread, sorted(found, key=lambda finished: -finished.done_ms)[:limit]

    aside, unread, found = with_session(run)
    if as_json:
        print_json([*map(_aside_summary, aside), *unread, *map(_summary, found)])
        return
    for one in aside:
        click.secho(
            f"! {one.window.id} is set aside since {moment(one.since_ms)}: {describe(one.damage)}",
            fg="red",
            bold=True,
        )
    for row in unread:
        click.secho(f"! {row['window']} waits: {row['reason']}", fg="red", bold=True)
    if not found:
        click.echo("No windows are set aside." if only_aside and not aside else "", nl=only_aside)
        if not only_aside:
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
    from sinfer.operations.rerun import find_window
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
    from sinfer.operations.rerun import rerun as run_again
    from sinfer.operations.rerun import wait_until_done

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


@windows.command()
@click.argument("window", required=False)
@product_option
@task_option
@click.option("--all", "every", is_flag=True, help="All windows that are set aside.")
@json_option
@click.pass_context
def rebuild(ctx: click.Context, /, as_json: bool, **which: Any) -> None:
    """Read what windows have lost from the stream, and have workers process them.

    Ends with 1 when a window cannot be rebuilt, as when the stream has its messages no more.

    \b
    Example:
      sinfer windows rebuild ex_1/in.w1/all/1
      sinfer windows rebuild --all
    """
    from sinfer.cli.progress import bar
    from sinfer.errors import SinferError
    from sinfer.operations.rebuild import rebuild as make_whole

    async def one(session: Session, aside: SetAside) -> dict[str, Any]:
        answer = {"window": aside.window.id, "rebuilt": False, "reason": ""}
        try:
            pipeline = await session.tasks.pipeline(aside.scope.product, aside.scope.task)
            async with session.nats(pipeline.task) as client:
                with bar(f"rebuilding {aside.window.id}", None, quiet=as_json) as advance:
                    done = await make_whole(session.store, client, aside, pipeline, advance)
            answer["rebuilt"] = done
            answer["reason"] = "" if done else "is not set aside any more"
        except SinferError as error:
            answer["reason"] = str(error)
        return answer

    _end_with(ctx, _each_aside(one, **which), "rebuilt", as_json, which["window"])


@windows.command()
@click.argument("window", required=False)
@product_option
@task_option
@click.option("--all", "every", is_flag=True, help="All windows that are set aside.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def discard(ctx: click.Context, /, yes: bool, as_json: bool, **which: Any) -> None:
    """Give up windows that are set aside: each message becomes a dead letter.

    Those that are gone become dead letters without a payload, which keep their sequences.

    \b
    Example:
      sinfer windows discard ex_1/in.w1/all/1
    """
    from sinfer.errors import ConfigError
    from sinfer.operations.rebuild import discard as give_up

    if not yes:
        click.confirm("Give up what is set aside?", abort=True)

    async def one(session: Session, aside: SetAside) -> dict[str, Any]:
        try:
            config = await session.tasks.task(aside.scope.product, aside.scope.task)
            ledger = config.limits.ledger
        except ConfigError:  # the task is gone, and its windows are left
            ledger = 0
        count = await give_up(session.store, aside, ledger=ledger)
        reason = "" if count else "is not set aside any more"
        return {"window": aside.window.id, "discarded": count, "reason": reason}

    _end_with(ctx, _each_aside(one, **which), "discarded", as_json, which["window"])


def _each_aside(
    one: Callable[[Session, SetAside], Awaitable[dict[str, Any]]],
    *,
    window: str | None,
    product: str | None,
    task: str | None,
    every: bool,
) -> list[dict[str, Any]]:
    """Do something with the windows that are meant; returns what came of each."""
    from sinfer.cli.connections import with_session
    from sinfer.operations.products import known_scopes
    from sinfer.operations.rebuild import find_aside

    if (window is None) is not every:
        raise click.UsageError("Give a window, or --all.")

    async def run(session: Session) -> list[dict[str, Any]]:
        scopes = await known_scopes(session.store, product, task)
        return [await one(session, a) for a in await find_aside(session.store, scopes, window)]

    return with_session(run)


def _end_with(
    ctx: click.Context,
    answers: list[dict[str, Any]],
    done: str,
    as_json: bool,
    window: str | None,
) -> None:
    """Say what came of each window, and end with that.

    Args:
        ctx: of the command.
        answers: for each window its id, whether it is done, and why it is not.
        done: what that is called.
        as_json: whether they are printed as JSON.
        window: the one that was asked for; None for all.
    """
    from sinfer.cli.output import print_json

    if as_json:
        print_json(answers)
    for answer in answers if not as_json else ():
        click.echo(f"{answer['window']}: {answer['reason'] or done}")
    if not answers and window is not None:
        click.echo(f"{window} is not set aside.", err=True)
        ctx.exit(exit_codes.FAILED)
    if not answers and not as_json:
        click.echo("No windows are set aside.")
    ctx.exit(exit_codes.OK if all(answer[done] for answer in answers) else exit_codes.FAILED)
