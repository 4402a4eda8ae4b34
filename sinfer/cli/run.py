"""`sinfer run`: one task in this process, without Celery and Redis, window by window."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from sinfer import exit_codes
from sinfer.cli.options import one_product_option
from sinfer.errors import ConfigError
from sinfer.logging.masking import mask

if TYPE_CHECKING:
    from sinfer.local.lines import Form
    from sinfer.local.task import LocalTask
    from sinfer.local.trace import ProcessedWindow
    from sinfer.products.product import Product
    from sinfer.products.task import InferTaskConfig


_WITH_MODEL = "--with-model"
_REASONS = 50
"""At most so many reasons why messages never came into a window are shown."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a task is run.

    Attributes:
        task_id: which task; None for the only one.
        path: a file of messages, or ``-`` for stdin; None for JetStream.
        form: what a line of it holds.
        virtual_time: whether time follows the messages.
        deliver: where to start on JetStream; None as the task says.
        most: stop after so many windows.
        no_sinks: whether results are only printed.
        full: whether all of each window is printed.
        as_json: whether windows are printed as JSON.
    """

    task_id: str | None
    path: str | None
    form: Form
    virtual_time: bool
    deliver: str | None
    most: int | None
    no_sinks: bool
    full: bool
    as_json: bool


@click.command()
@one_product_option
@click.option("--task", "task_id", metavar="ID", help="Which task; its only one by default.")
@click.option(
    "--input", "path", metavar="FILE", help="Read messages from a file of lines, or - for stdin."
)
@click.option(
    "--form",
    type=click.Choice(["data", "message"]),
    default="data",
    show_default=True,
    help='What a line holds: a payload, or {"data": ..., "subject": ..., "time": ...}.',
)
@click.option(
    "--virtual-time", is_flag=True, help="Let time follow the messages, and wait for nothing."
)
@click.option(
    "--deliver",
    type=click.Choice(["all", "new"]),
    help="From JetStream: where to start; as the task says by default.",
)
@click.option("--windows", "most", metavar="N", type=click.IntRange(min=1), help="Stop after N.")
@click.option(
    _WITH_MODEL,
    is_flag=True,
    help="Start the model server that the product ships, with its sample tasks, for this run.",
)
@click.option("--no-sinks", is_flag=True, help="Only print results; write them nowhere.")
@click.option("--full", is_flag=True, help="Print all of each window, however long.")
@click.option("--json", "as_json", is_flag=True, help="Print each window as a line of JSON.")
@click.pass_context
def run(ctx: click.Context, /, product: str, with_model: bool, **options: Any) -> None:
    """Run one task in this process and print each window as it closes.

    Messages take the same way as in production, but all of it on one thread: breakpoints work in
    every hook of the product. Neither Celery nor Redis is needed, and with --input no NATS either.
    What is read from JetStream is not acknowledged, so that nobody misses it. Ends with 1 when a
    message was given up or a window could not be done.

    \b
    Example:
      sinfer publish --product example --messages 200 --print > messages.jsonl
      sinfer run --product example --input messages.jsonl --form message --virtual-time \
                 --with-model --no-sinks
      sinfer run --product example --task ex_1 --deliver all --windows 3
    """
    import asyncio

    from sinfer.hooks.call import leaving_a_debugger_ends_the_program
    from sinfer.local.run import run_and_close
    from sinfer.logging.setup import set_up_logging
    from sinfer.products.registry import find_product
    from sinfer.settings import settings

    set_up_logging("WARNING", settings().log_format)
    # It would say once more what is printed with each window.
    logging.getLogger("sinfer.worker.process").setLevel(logging.ERROR)
    leaving_a_debugger_ends_the_program()
    found = find_product(product, settings().products)
    if with_model:
        from sinfer.local.shipped_model import run_with_model
        from sinfer.products.scenario import demonstration_of

        words = [word for word in sys.argv if word != _WITH_MODEL]
        ctx.exit(run_with_model(demonstration_of(found), words))

    asked = Options(**options)

    def show(window: ProcessedWindow) -> None:
        from sinfer.local.display import as_dict, lines_of

        if asked.as_json:
            click.echo(json.dumps(as_dict(window), ensure_ascii=False))
        else:
            click.echo("\n".join(lines_of(window, full=asked.full)))

    async def work() -> LocalTask:
        config = await _task(found, asked.task_id)
        task = _make(found, config, asked, show)
        try:
            await run_and_close(task, _batches(task, asked))
        except BaseException:
            if task.counts["fetched"]:  # say what was done up to here
                _summary(task, asked)
            raise
        _summary(task, asked)
        return task

    task = asyncio.run(work())
    is_right = not (task.dead or task.paused or task.undone)
    ctx.exit(exit_codes.OK if is_right else exit_codes.FAILED)


async def _task(product: Product, task_id: str | None) -> InferTaskConfig:
    """The task of that id, or the only one.

    Raises:
        ConfigError: there is none, or several to choose from.
    """
    listed = await product.list_tasks()
    await product.close_tasks()
    if task_id is None and len(listed.tasks) == 1:
        return next(iter(listed.tasks.values()))
    if task_id in listed.tasks:
        return listed.tasks[task_id]
    if task_id in listed.problems:
        raise ConfigError(listed.problems[task_id])
    known = ", ".join(sorted(listed.tasks)) or next(iter(listed.problems.values()), "none")
    if task_id is None:
        raise ConfigError(f"product {product.name!r}: choose one with --task ID ({known})")
    raise ConfigError(f"product {product.name!r} has no task {task_id!r} (it has: {known})")


def _make(product: Product, config: InferTaskConfig, asked: Options, show: Any) -> LocalTask:
    import secrets

    from sinfer.clock import ManualClock, SystemClock
    from sinfer.local.task import LocalRun, LocalTask

    return LocalTask(
        product,
        config,
        clock=ManualClock() if asked.virtual_time else SystemClock(),
        on_window=show,
        sinks={} if asked.no_sinks else None,
        how=LocalRun(
            asked.most,
            config.limits.max_attempts if asked.virtual_time or asked.path else None,
            f"run-{secrets.token_hex(4)}",
        ),
    )


def _batches(task: LocalTask, asked: Options) -> Any:
    from sinfer.local.lines import lines_of, messages_in
    from sinfer.local.run import from_file, from_jetstream, from_pipe
    from sinfer.local.terminal import lines_from, take_stdin

    source, path = task.config.source, asked.path
    if path is None:
        if asked.deliver is not None:
            source = source.model_copy(update={"deliver": asked.deliver})
        return from_jetstream(source, until_caught_up=asked.virtual_time)
    if path == "-":
        lines = lines_from(take_stdin())
        return from_pipe(task.own(messages_in(lines, asked.form, "stdin")))
    return from_file(task.own(messages_in(lines_of(path), asked.form, path)), source.batch)


def _summary(task: LocalTask, asked: Options) -> None:
    from sinfer.cli.output import some
    from sinfer.local.display import reasons

    counted = {name: count for name, count in task.counts.items() if count and name != "windows"}
    counts = ", ".join(f"{count} {name}" for name, count in counted.items())
    text = f"{some(len(task.windows), 'window')}; messages: {counts or 'none'}"
    if task.others:
        text += f"\n{some(task.others, 'message')} on subjects that the task does not read"
    if task.paused:
        text += f"\nstopped, no window can succeed: {task.paused}"
    elif task.undone:
        reason = next(window.waits_for for window in task.windows if not window.is_done)
        text += (
            f"\nnot done: {some(task.undone, 'window')}; production goes on until it is: "
            f"{mask(reason)}"
        )
    click.echo(text, err=asked.as_json)
    if asked.as_json:
        return
    path = "stdin" if asked.path == "-" else asked.path
    place = "message" if path is None else f"{path}, line"
    early = list(reasons([letter for letter in task.dead if not letter.window], full=asked.full))
    shown = early if asked.full else early[:_REASONS]
    for reason in shown:
        click.echo(f"dead: {place} {reason}")
    if len(early) > len(shown):
        click.echo(f"      … and {len(early) - len(shown)} more reasons; --full shows all")
