"""`sinfer publish`: messages for a product, its own samples or those of a file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from sinfer.cli.options import one_product_option
from sinfer.errors import ConfigError

if TYPE_CHECKING:
    from sinfer.local.lines import Form
    from sinfer.products.product import Product
    from sinfer.types.message import Message

_SAMPLES = 1000


@click.command()
@one_product_option
@click.option(
    "--messages",
    "count",
    type=click.IntRange(min=1),
    metavar="N",
    help=f"How many; {_SAMPLES} samples, or all of a file, by default.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="N",
    help="Messages a second; as fast as it goes by default.",
)
@click.option("--input", "path", metavar="FILE", help="A file of lines instead, or - for stdin.")
@click.option(
    "--form",
    type=click.Choice(["data", "message"]),
    default="data",
    show_default=True,
    help='What a line holds: a payload, or {"data": ..., "subject": ..., "headers": ...}.',
)
@click.option("--subject", help="For lines that name none; what the task reads by default.")
@click.option("--task", "task_id", metavar="ID", help="Whose subject; the first by default.")
@click.option(
    "--print",
    "to_stdout",
    is_flag=True,
    help="Print the samples as lines of the form `message`, and publish nothing.",
)
def publish(
    product: str,
    count: int | None,
    rate: float | None,
    path: str | None,
    to_stdout: bool,
    **of_lines: Any,
) -> None:
    """Publish messages for a product to JetStream, each confirmed.

    Without --input they are the samples that the product ships, and the streams of its
    demonstration are made where they are missing.

    \b
    Example:
      sinfer publish --product example --messages 10000 --rate 500
      sinfer publish --product soe --rate 50
      sinfer publish --product example --input messages.jsonl
      sinfer publish --product soe --messages 900 --print > messages.jsonl
    """
    import asyncio

    from sinfer.products.registry import find_product
    from sinfer.settings import settings

    found = find_product(product, settings().products)
    if to_stdout:
        if path is not None:
            raise click.UsageError("--print is for samples, and --input is for a file")
        _print_samples(found, count or _SAMPLES)
        return
    if path is None:
        published = asyncio.run(_samples(found, count or _SAMPLES, rate))
    else:
        published = asyncio.run(_file(found, path, count, rate, **of_lines))
    click.echo(f"published {published} messages")


def _print_samples(product: Product, count: int) -> None:
    from sinfer.local.lines import line_of
    from sinfer.products.scenario import demonstration_of, samples_of

    for message in samples_of(demonstration_of(product), count):
        click.echo(line_of(message))


async def _samples(product: Product, count: int, rate: float | None) -> int:
    from sinfer.cli.progress import bar
    from sinfer.local import publish as publishing
    from sinfer.local.streams import make_streams
    from sinfer.nats.connection import connect
    from sinfer.nats.whereabouts import errors_told
    from sinfer.products.scenario import Publishing, demonstration_of, samples_of
    from sinfer.settings import settings

    scenario = demonstration_of(product)
    published = 0
    client = await connect(settings().nats_place, name="sinfer-publish")
    try:
        async with errors_told(client, "the product's streams"):
            await make_streams(client.jetstream(), scenario.streams)
        with bar("publishing", None if scenario.publish else count) as advance:

            def stored(messages: int) -> None:
                nonlocal published
                published += messages
                advance(messages)

            if scenario.publish is not None:
                await scenario.publish(Publishing(client, count, rate, stored))
            else:
                messages = samples_of(scenario, count)
                await publishing.publish(client, messages, rate=rate, on_stored=stored)
    finally:
        await client.close()
    return published


async def _file(
    product: Product,
    path: str,
    count: int | None,
    rate: float | None,
    *,
    form: Form,
    subject: str | None,
    task_id: str | None,
) -> int:
    from sinfer.cli.progress import bar
    from sinfer.local import publish as publishing
    from sinfer.local.lines import lines_of, messages_in
    from sinfer.nats.connection import connect
    from sinfer.settings import settings

    lines: Iterable[bytes] = sys.stdin.buffer if path == "-" else lines_of(path)
    messages = messages_in(lines, form, "stdin" if path == "-" else path)
    default = subject or await _subject_of(product, task_id)
    client = await connect(settings().nats_place, name="sinfer-publish")
    try:
        with bar("publishing", _how_many(path, count)) as advance:
            return await publishing.publish(
                client, _addressed(messages, default, count), rate=rate, on_stored=advance
            )
    finally:
        await client.close()


def _how_many(path: str, count: int | None) -> int | None:
    """How many messages of a file will be published; None where that is not known."""
    from sinfer.local.lines import lines_of

    if path == "-":
        return count
    lines = sum(1 for line in lines_of(path) if line.strip())
    return lines if count is None else min(lines, count)


async def _subject_of(product: Product, task_id: str | None) -> str:
    """What a task reads, where that is one subject; else empty."""
    listed = await product.list_tasks()
    await product.close_tasks()
    if task_id is not None and task_id not in listed.tasks:
        raise ConfigError(
            listed.problems.get(task_id) or f"product {product.name!r} has no task {task_id!r}"
        )
    tasks = [listed.tasks[task_id]] if task_id is not None else list(listed.tasks.values())
    subject = tasks[0].source.partition_subjects[0] if tasks else ""
    return "" if "*" in subject or ">" in subject else subject


def _addressed(messages: Iterable[Message], default: str, count: int | None) -> Iterator[Message]:
    from sinfer.types.message import Message

    for place, message in enumerate(messages):
        if count is not None and place >= count:
            return
        subject = message.subject or default
        if not subject:
            raise ConfigError("the task reads more than one subject; name one with --subject")
        yield Message(message.data, subject, message.headers)
