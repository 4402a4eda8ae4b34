"""`sinfer dlq`: look at dead letters, redrive them, remove them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from sinfer import exit_codes
from sinfer.cli.options import Moment, Sequences, json_option, product_option, task_option
from sinfer.windows.stages import Stage

if TYPE_CHECKING:
    from sinfer.cli.connections import Session
    from sinfer.operations.redrive import Redriven
    from sinfer.store.history.dead_letter_store import LetterFilter, StoredLetter

F = TypeVar("F", bound=Callable[..., Any])

_PURGE_AT_ONCE = 500


@click.group()
def dlq() -> None:
    """Dead letters: messages that were given up, with the reason and their bytes.

    \b
    Example:
      sinfer dlq list --task ex_1 --stage inference
      sinfer dlq redrive --task ex_1 --error "model is not loaded"
    """


def _filters(command: F) -> F:
    """Which letters are meant."""
    for option in reversed(
        [
            click.argument("ids", nargs=-1, metavar="[ID]..."),
            product_option,
            task_option,
            click.option("--partition", metavar="SUBJECT", help="Of this partition only."),
            click.option(
                "--stage",
                type=click.Choice(get_args(Stage)),
                help="Of those that failed there only.",
            ),
            click.option("--window", metavar="ID", default=None, help="Of this window."),
            click.option(
                "--error", "text", metavar="TEXT", default=None, help="Part of the error."
            ),
            click.option(
                "--since", type=Moment(), default=None, help="Stored since: ISO 8601, or 15m ago."
            ),
            click.option("--until", type=Moment(), default=None, help="Stored before."),
            click.option(
                "--seq", type=Sequences(), default=None, help="Stream sequences: 5 or 5-9."
            ),
        ]
    ):
        command = option(command)
    return command


def _wanted(
    *,
    ids: tuple[str, ...],
    since: int | None,
    until: int | None,
    seq: tuple[int, int] | None,
    **others: Any,
) -> LetterFilter:
    """The options of ``_filters``; the others are named as the filter's own fields."""
    from sinfer.store.history.dead_letter_store import LetterFilter

    first, last = seq or (None, None)
    return LetterFilter(
        since_ms=since,
        until_ms=until,
        first_seq=first,
        last_seq=last,
        ids=frozenset(ids),
        **others,
    )


def _summary(stored: StoredLetter) -> dict[str, Any]:
    letter = stored.letter
    return {
        "id": stored.id,
        "product": stored.scope.product,
        "task": stored.scope.task,
        "partition": stored.scope.partition,
        "stored_ms": stored.stored_ms,
        "stage": letter.stage,
        "error": letter.error,
        "subject": letter.message.subject,
        "seq": letter.message.stream_seq,
        "window": letter.window,
        "attempts": letter.attempts,
        "failed_before": len(letter.history),
    }


@dlq.command("list")
@_filters
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most letters to show.",
)
@json_option
def list_(limit: int, as_json: bool, **which: Any) -> None:
    """List dead letters, the oldest of each partition first.

    \b
    Example:
      sinfer dlq list --since 1h --error "400"
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import moment, print_json, print_table
    from sinfer.store.history.dead_letter_store import DeadLetterStore

    async def run(session: Session) -> list[StoredLetter]:
        found = []
        async with aclosing(DeadLetterStore(session.store).find(_wanted(**which))) as letters:
            async for stored in letters:
                found.append(stored)
                if len(found) > limit:
                    break
        return found

    found = with_session(run)
    more, found = len(found) > limit, found[:limit]
    if as_json:
        print_json([_summary(stored) for stored in found])
    elif not found:
        click.echo("No dead letters.")
    else:
        print_table(
            ["ID", "TASK", "SEQ", "TIME", "STAGE", "TRIES", "ERROR"],
            (
                [
                    s.id, s.scope.task, s.letter.message.stream_seq, moment(s.stored_ms),
                    s.letter.stage, s.letter.attempts, s.letter.error,
                ]
                for s in found
            ),
        )  # fmt: skip
    if more:
        click.echo(f"There are more; --limit {limit} was reached.", err=True)


@dlq.command()
@click.argument("id")
@json_option
@click.pass_context
def show(ctx: click.Context, id: str, as_json: bool) -> None:
    """Show a dead letter: reason, history, headers and payload.

    \b
    Example:
      sinfer dlq show 1769860800000-0-9f3a11c2
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import moment, print_json, text_of
    from sinfer.store.history.dead_letter_store import DeadLetterStore, LetterFilter

    async def run(session: Session) -> StoredLetter | None:
        async with aclosing(
            DeadLetterStore(session.store).find(LetterFilter(ids=frozenset([id])))
        ) as letters:
            async for stored in letters:
                return stored
        return None

    stored = with_session(run)
    if stored is None:
        click.echo(f"There is no dead letter {id}.", err=True)
        ctx.exit(exit_codes.FAILED)
    letter = stored.letter
    times = letter.whole_history
    if as_json:
        from base64 import b64encode

        print_json(
            {
                **_summary(stored),
                "headers": letter.message.headers or {},
                "timestamp_ns": letter.message.timestamp_ns,
                "data": b64encode(letter.message.data).decode(),
                "text": text_of(letter.message.data),
                "history": [
                    {"time_ms": f.time_ms, "stage": f.stage, "error": f.error, "tries": f.attempts}
                    for f in times
                ],
            }
        )
        return
    for name, value in _summary(stored).items():
        if name not in ("stored_ms", "failed_before", "error", "stage"):
            click.echo(f"{name + ':':<11} {value}")
    for failed in times:
        click.echo(
            f"{'failed:':<11} {moment(failed.time_ms)} in {failed.stage},"
            f" tries {failed.attempts}: {failed.error}"
        )
    for name, value in (letter.message.headers or {}).items():
        click.echo(f"{'header:':<11} {name}: {value}")
    click.echo(f"\n{text_of(letter.message.data)}")


@dlq.command()
@_filters
@click.option("--all", "everything", is_flag=True, help="All of them, where no filter is given.")
@click.option(
    "--rate",
    default=1000.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Most letters a second.",
)
@json_option
@click.pass_context
def redrive(
    ctx: click.Context, /, everything: bool, rate: float, as_json: bool, **which: Any
) -> None:
    """Send dead letters through the product once more.

    They leave the dead letters in the step in which they come back to a window, and from there
    workers take them like any other. What fails again is a dead letter again, with its history.
    Ends with 1 when some failed again at once.

    \b
    Example:
      sinfer dlq redrive --task ex_1 --stage sink --rate 200
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import print_json

    _insist_on_choice(ctx, everything, which)
    results = with_session(lambda session: _redrive(session, _wanted(**which), rate, as_json))
    total = {
        name: sum(getattr(result, name) for result in results)
        for name in ("letters", "windows", "filtered", "failed", "gone")
    }
    reasons: dict[str, int] = {}
    for result in results:
        for reason, count in result.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    if as_json:
        print_json({**total, "reasons": reasons})
    else:
        click.echo(f"{total['letters']} letters went back, in {total['windows']} windows.")
        for name, text in (
            ("filtered", "are filtered out by preprocess now"),
            ("gone", "were taken by someone else meanwhile"),
            ("failed", "failed again at once and stay dead"),
        ):
            if total[name]:
                click.echo(f"{total[name]} {text}.")
        for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])[:5]:
            click.echo(f"  {count} x {reason}")
    ctx.exit(exit_codes.FAILED if total["failed"] else exit_codes.OK)


async def _redrive(
    session: Session, wanted: LetterFilter, rate: float, quiet: bool
) -> list[Redriven]:
    from sinfer.cli.progress import bar
    from sinfer.operations.redrive import Redrive

    found = await _matching(session, wanted)
    pipelines = {s: await session.tasks.pipeline(s.product, s.task) for s in found}
    results = []
    for scope, entries in found.items():
        with bar(f"redriving {scope.task}", len(entries), quiet=quiet) as advance:
            work = Redrive(session.store, scope, pipelines[scope], rate=rate, progress=advance)
            results.append(await work.run(wanted))
    return results


@dlq.command()
@_filters
@click.option("--all", "everything", is_flag=True, help="All of them, where no filter is given.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_context
def purge(ctx: click.Context, /, everything: bool, yes: bool, as_json: bool, **which: Any) -> None:
    """Remove dead letters for good. The account goes on counting them as dead.

    \b
    Example:
      sinfer dlq purge --task ex_1 --until 30d --yes
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import print_json

    _insist_on_choice(ctx, everything, which)
    wanted = _wanted(**which)
    found = with_session(lambda session: _matching(session, wanted))
    count = sum(len(entries) for entries in found.values())
    if count and not yes:
        click.confirm(f"Remove {count} dead letters for good?", abort=True, err=True)

    async def remove(session: Session) -> int:
        from sinfer.store.history.dead_letter_store import DeadLetterStore

        letters = DeadLetterStore(session.store)
        removed = 0
        for scope, entries in found.items():
            for first in range(0, len(entries), _PURGE_AT_ONCE):
                removed += await letters.purge(scope, entries[first : first + _PURGE_AT_ONCE])
        return removed

    removed = with_session(remove)
    if as_json:
        print_json({"removed": removed})
    else:
        click.echo(f"{removed} dead letters removed.")


async def _matching(session: Session, wanted: LetterFilter) -> dict[Any, list[str]]:
    from sinfer.store.history.dead_letter_store import DeadLetterStore

    found: dict[Any, list[str]] = {}
    async for stored in DeadLetterStore(session.store).find(wanted):
        found.setdefault(stored.scope, []).append(stored.entry)
    return found


def _insist_on_choice(ctx: click.Context, /, everything: bool, which: dict[str, Any]) -> None:
    if not everything and not any(which.values()):
        raise click.UsageError("say which: IDs, filters, or --all", ctx)
