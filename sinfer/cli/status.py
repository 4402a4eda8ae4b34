"""`sinfer audit`, `sinfer where`, `sinfer status`, `sinfer metrics`: how things stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from sinfer import exit_codes
from sinfer.cli.options import Moment, json_option, product_option, task_option

if TYPE_CHECKING:
    from nats.aio.client import Client

    from sinfer.cli.connections import Session
    from sinfer.operations.audit import Audited
    from sinfer.operations.deep_audit import DeepAudited
    from sinfer.operations.locate import Found
    from sinfer.operations.status import TaskStanding
    from sinfer.products.pipeline import InferPipeline
    from sinfer.windows.ids import Scope

_WATCH_S = 1.0


@click.command()
@product_option
@task_option
@click.option(
    "--deep", is_flag=True, help="Hold each message of the stream and each result against it."
)
@click.option(
    "--since",
    type=Moment(),
    default=None,
    help="With --deep: only messages stored in the stream since: ISO 8601, or 15m ago.",
)
@json_option
@click.pass_context
def audit(
    ctx: click.Context,
    product: str | None,
    task: str | None,
    deep: bool,
    since: int | None,
    as_json: bool,
) -> None:
    """Add up what became of every message; tasks may be at work meanwhile.

    With --deep, messages are looked at one by one: what was read and is nowhere, or is in two
    windows, is named; so are results that sinks miss or have twice, where a sink can be asked. What
    the ledger or the stream has no more cannot be told, and is said.

    Ends with 1 when a message is missing or counted twice, when a window has not all of its
    messages any more (these are named), or when it is where nobody would process it.

    \b
    Example:
      sinfer audit --task ex_1
      sinfer audit --deep --since 2h
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import print_json
    from sinfer.operations.audit import audit as audit_partitions
    from sinfer.operations.products import known_scopes

    if since is not None and not deep:
        raise click.UsageError("--since goes with --deep.")

    async def run(session: Session) -> tuple[list[Audited], dict[Scope, DeepAudited | str]]:
        scopes = await known_scopes(session.store, product, task)
        audited = await audit_partitions(session.store, scopes)
        looked = {}
        for scope in scopes if deep else ():
            looked[scope] = await _look_deep(session, scope, since, quiet=as_json)
        return audited, looked

    found, looked = with_session(run)
    rows = [_audit_row(audited, looked.get(audited.scope)) for audited in found]
    if as_json:
        print_json(rows)
    elif not rows:
        click.echo("Nothing was ingested yet.")
    else:
        _print_audit(rows)
    wrong = [audited for audited in found if not audited.is_right]
    for audited in wrong:
        for problem in audited.problems:
            click.echo(f"{audited.scope}: {problem}", err=True)
    is_right = not wrong
    for scope, answer in looked.items():
        is_right = _tell_deep(scope, answer, quiet=as_json) and is_right
    if any(audited.damaged for audited in wrong):
        click.echo(
            "`sinfer windows rebuild --all` reads what is gone from the stream;"
            " `sinfer windows discard` gives a window up",
            err=True,
        )
    ctx.exit(exit_codes.OK if is_right else exit_codes.FAILED)


_AUDITED = (
    "fetched", "buffered", "in_flight", "sunk", "dead", "filtered", "late", "missing", "discarded",
    "results",
    "fruitless", "results_new", "results_known", "results_collided",
)  # fmt: skip
"""What is shown of an account."""


def _audit_row(audited: Audited, looked: DeepAudited | str | None) -> dict[str, Any]:
    damaged = [
        {
            "window": one.window,
            "state": one.state,
            "reason": one.damage.reason,
            "sequences": one.damage.sequences,
            "unknown": one.damage.unknown,
        }
        for one in audited.damaged
    ]
    return {
        **audited.scope._asdict(),
        **{name: getattr(audited.account, name) for name in _AUDITED},
        "missing": audited.missing,
        "gone": [asdict(one) for one in audited.gone],
        "written_off": audited.written_off,
        "stranded": audited.stranded,
        "damaged": damaged,
        "orphans": audited.orphans,
        "lost_letters": audited.lost_letters,
        "error": audited.error,
        **({} if looked is None else {"deep": _deep_row(looked)}),
    }


def _print_audit(rows: list[dict[str, Any]]) -> None:
    from sinfer.cli.output import print_table

    shown = [name for name in _AUDITED if name != "fruitless"]
    print_table(
        ["PARTITION", *(name.replace("_", " ").upper() for name in shown), "STRANDED"],
        (
            [
                f"{r['product']}/{r['task']} {r['partition']}",
                *(r[name] for name in shown),
                len(r["stranded"]),
            ]
            for r in rows
        ),
    )
    for row in rows:
        if row["fruitless"]:
            click.echo(
                f"{row['product']}/{row['task']} {row['partition']}: build_results made no"
                f" result of {row['fruitless']} messages, which count as sunk"
            )


async def _look_deep(
    session: Session, scope: Scope, since_ms: int | None, *, quiet: bool
) -> DeepAudited | str:
    """The deep audit of a partition, or why there is none."""
    from sinfer.cli.progress import bar
    from sinfer.errors import SinferError
    from sinfer.operations.deep_audit import DeepAudit

    try:
        pipeline = await session.tasks.pipeline(scope.product, scope.task)
        async with session.nats(pipeline.task) as client:
            with bar(f"auditing {scope}", None, quiet=quiet) as advance:
                audited = await DeepAudit(
                    session.store, client, scope, pipeline, since_ms=since_ms, progress=advance
                ).run()
                await _ask_sinks(session, client, scope, pipeline, audited, advance)
                return audited
    except SinferError as error:
        return str(error)


async def _ask_sinks(
    session: Session,
    client: Client,
    scope: Scope,
    pipeline: InferPipeline[Any, Any],
    audited: DeepAudited,
    progress: Callable[[int], None],
) -> None:
    """Ask the task's sinks what they have; one that cannot be made is told and left out."""
    from sinfer.errors import SinferError
    from sinfer.hooks.call import Hook
    from sinfer.nats.stream_messages import StreamMessages
    from sinfer.operations.result_audit import ResultAudit
    from sinfer.sinks.base import Sink

    task, sinks = pipeline.task, {}
    try:
        for name, config in zip(task.sink_names(), task.sinks, strict=True):
            try:
                sinks[name] = Sink.make(config, f"{scope}: its sink {name}")
            except SinferError as error:
                audited.sinks[name] = f"could not be asked: {error}"
        messages = StreamMessages(client, task.source.stream)
        await ResultAudit(session.store, messages, scope, pipeline, sinks, audited, progress).run()
    finally:
        for sink in sinks.values():
            await Hook("sink", "aclose", sink.aclose).wait()


def _deep_row(answer: DeepAudited | str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"error": answer}
    return {name: value for name, value in asdict(answer).items() if name != "scope"}


def _tell_deep(scope: Scope, answer: DeepAudited | str, *, quiet: bool) -> bool:
    """Say what a deep audit found; returns whether it is right."""
    if isinstance(answer, str):
        click.echo(f"{scope}: cannot be looked at: {answer}", err=True)
        return False
    for finding in answer.findings:
        at = f" of window {finding.window}" if finding.window else ""
        place = f" result {finding.ordinal}" if finding.ordinal >= 0 else ""
        seq = f" message {finding.seq}" if finding.seq else ""
        click.echo(
            f"{scope}: {finding.kind} in {finding.where}:{seq}{place}{at}: {finding.text}", err=True
        )
    if answer.more:
        click.echo(f"{scope}: and {answer.more} more", err=True)
    if not quiet:
        for text in answer.unknown:
            click.echo(f"{scope}: not known: {text}")
        for name, text in answer.sinks.items():
            click.echo(f"{scope}: sink {name}: {text}")
        click.echo(
            f"{scope}: looked at all that was read up to sequence {answer.messages};"
            f" {len(answer.findings) + answer.more} findings"
        )
    return answer.is_right


@click.command()
@product_option
@click.option("--task", metavar="ID", required=True, help="The task that reads the message.")
@click.option(
    "--seq",
    metavar="N",
    required=True,
    type=click.IntRange(min=1),
    help="The message's sequence in the task's stream.",
)
@json_option
@click.pass_context
def where(ctx: click.Context, product: str | None, task: str, seq: int, as_json: bool) -> None:
    """Find a message by its stream sequence: which window, which state, or what became of it.

    Ends with 1 when nothing is known of it, or it is gone from where it should be.

    \b
    Example:
      sinfer where --task ex_1 --seq 4711
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import moment, print_json

    found = with_session(lambda session: _where(session, product, task, seq))
    if as_json:
        print_json([asdict(place) for place in found])
    else:
        for place in found:
            parts: list[str] = [place.state]
            if place.window:
                parts.append(f"window {place.window}")
            if place.attempts:
                parts.append(f"tries {place.attempts}")
            if place.due_ms:
                parts.append(
                    f"{'lease ends' if place.state == 'leased' else 'due'} {moment(place.due_ms)}"
                )
            if place.done_ms:
                parts.append(f"since {moment(place.done_ms)}")
            if place.sinks:
                parts.append(f"sinks {', '.join(place.sinks)}")
            if place.letter:
                parts.append(f"dead letter {place.letter}")
            if place.text:
                parts.append(place.text)
            click.echo("; ".join(parts))
    is_known = any(place.state not in ("unknown", "missing") for place in found)
    ctx.exit(exit_codes.OK if is_known else exit_codes.FAILED)


async def _where(session: Session, product: str | None, task: str, seq: int) -> list[Found]:
    from sinfer.errors import SourceError, UnavailableError
    from sinfer.nats.stream_messages import StreamMessages
    from sinfer.nats.subjects import covers
    from sinfer.operations.locate import Finder, Found, untraceable
    from sinfer.windows.ids import Scope

    found = []
    for owner, config in await session.tasks.find(product, task):
        message, trouble, created = None, "", ""
        try:
            async with session.nats(config) as client:
                messages = StreamMessages(client, config.source.stream)
                message = await messages.get(seq)
                created = (await messages.api.stream_info()).created
        except (SourceError, UnavailableError) as error:
            trouble = f"; {error}"
        for subject in config.source.partition_subjects:
            finder = Finder(session.store, Scope(owner.name, task, subject))
            places = await finder.find(seq)
            read_from = await finder.stream_created()
            if places:
                found += places
            elif created and read_from and created != read_from:
                text = f"the stream was made again at {created}; what was read was another one"
                found.append(Found("unknown", subject, text=text, product=owner.name))
            elif message is not None and not covers(subject, message.subject):
                continue
            elif (unread := await finder.unread(seq, is_in_stream=message is not None)) is not None:
                state, text = unread
                found.append(Found(state, subject, text=text + trouble, product=owner.name))
            else:
                pipeline = await session.tasks.pipeline(owner.name, task)
                scope = Scope(owner.name, task, subject)
                state, text = await untraceable(session.store, scope, pipeline, seq, message)
                found.append(Found(state, subject, text=text + trouble, product=owner.name))
    if found:
        return found
    subject = message.subject if message is not None else "?"
    return [Found("unknown", "", text=f"its subject {subject} is not one that the task reads")]


@click.command()
@product_option
@task_option
@click.option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@json_option
def status(product: str | None, task: str | None, watch: bool, as_json: bool) -> None:
    """Show how tasks stand: windows, dead letters, pauses, ingestors, lag.

    \b
    Example:
      sinfer status --watch
    """
    import asyncio

    from sinfer.cli.connections import with_session
    from sinfer.cli.output import print_json

    async def run(session: Session) -> None:
        while True:
            tasks = await _standing(session, product, task)
            if as_json:
                print_json([_as_dict(standing) for standing in tasks])
            else:
                if watch:
                    click.clear()
                _print(tasks)
            if not watch:
                return
            await asyncio.sleep(_WATCH_S)

    with_session(run)


async def _standing(session: Session, product: str | None, task: str | None) -> list[TaskStanding]:
    from sinfer.errors import ConfigError, UnavailableError
    from sinfer.operations.processes import add_processes, without_tasks
    from sinfer.operations.products import known_scopes
    from sinfer.operations.status import broken_index, broken_tasks, measure_lag, standing
    from sinfer.products.registry import load_products
    from sinfer.settings import settings

    tasks = await standing(session.store, await known_scopes(session.store, product, task))
    await add_processes(session.store, tasks)
    for found in tasks:
        try:
            is_gone = await session.tasks.is_gone(found.product, found.task)
        except ConfigError as error:
            found.outage = found.outage or str(error)
            continue
        if is_gone:
            found.trouble.append("is not listed any more: what it left is processed and forgotten")
            continue
        try:
            config = await session.tasks.task(found.product, found.task)
        except ConfigError as error:
            found.trouble.append(str(error))
            continue
        try:
            async with session.nats(config) as client:
                for partition in found.partitions:
                    await measure_lag(client, config.source.stream, partition)
        except UnavailableError as error:
            found.trouble.append(str(error))
    products = {found.product for found in tasks}
    products |= {product} if product is not None else load_products(settings().products)[0].keys()
    broken = await broken_tasks(session.store, products, tasks)
    if task is None:
        shown = {found.product for found in (*tasks, *broken)}
        broken += await without_tasks(session.store, products - shown)
    if product is None and task is None:
        broken += await broken_index(session.store)
    return tasks + [found for found in broken if task in (None, found.task)]


def _as_dict(found: TaskStanding) -> dict[str, Any]:
    return {
        "product": found.product,
        "task": found.task,
        "paused": found.paused,
        "ingestors": found.ingestors,
        "workers": found.workers,
        "beats": found.beats,
        "missing": found.missing,
        "lag": found.lag,
        "outage": found.outage,
        "trouble": found.trouble,
        "clocks": found.clocks,
        "partitions": [
            {
                **{k: v for k, v in asdict(partition).items() if k != "scope"},
                "partition": partition.scope.partition,
            }
            for partition in found.partitions
        ],
    }


def _print(tasks: list[TaskStanding]) -> None:
    from sinfer.cli.output import print_table, some

    stored = [task for task in tasks if task.task]
    names = ("open", "sealed", "waiting", "leased", "letters", "sunk")
    if not stored:
        click.echo("Nothing was ingested yet.")
    else:
        print_table(
            ["TASK", *(name.upper() for name in names), "LAG"],
            (
                [f"{t.product}/{t.task}", *map(t.total, names), "?" if t.lag is None else t.lag]
                for t in stored
            ),
        )
    for task in {task.product: task for task in stored}.values():
        click.echo(
            f"{task.product}: {some(task.ingestors, 'ingestor')},"
            f" {some(task.workers, 'worker process', 'es')}, {some(task.beats, 'beat')}"
        )
    for task in stored:
        if text := task.versions:
            click.echo(f"{task.product}/{task.task}: {text}")
    _print_problems(tasks)


def _print_problems(tasks: list[TaskStanding]) -> None:
    for problem in dict.fromkeys(problem for task in tasks for problem in task.clocks):
        click.secho(f"! clocks: {problem}", fg="red", bold=True)
    for product, missing in {task.product: task.missing for task in tasks}.items():
        for text in missing:
            click.secho(f"! {product}: {text}", fg="red", bold=True)
    outages = {task.product: task.outage for task in tasks if task.outage}
    for product, outage in outages.items():
        text = f"its tasks cannot be listed, so the last known stay in force: {outage}"
        click.secho(f"! {product}: {text}", fg="red", bold=True)
    for task in tasks:
        for trouble in task.trouble:
            click.secho(f"! {task.product}/{task.task}: {trouble}", fg="red", bold=True)


@click.command()
@click.option(
    "--port",
    default=9464,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Where Prometheus asks.",
)
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen on; there is no authentication.",
)
def metrics(port: int, address: str) -> None:
    """Serve metrics for Prometheus, until SIGTERM or Ctrl-C.

    \b
    Example:
      sinfer metrics --port 9464
    """
    import signal
    import threading

    from prometheus_client import CollectorRegistry, start_http_server

    from sinfer.operations.metrics import SinferCollector
    from sinfer.ports import listening

    registry = CollectorRegistry()
    registry.register(SinferCollector())
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ending.set())
    with listening(address, port, "--port (or --address)"):
        server, thread = start_http_server(port, addr=address, registry=registry)
    click.echo(f"metrics are at http://{address}:{port}/metrics", err=True)
    ending.wait()
    server.shutdown()
    server.server_close()
    thread.join()
