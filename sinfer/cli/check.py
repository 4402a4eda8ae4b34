"""`sinfer check`: preflight."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sinfer import exit_codes
from sinfer.cli.options import json_option, product_option, task_option

if TYPE_CHECKING:
    from sinfer.cli.connections import Session
    from sinfer.operations.preflight.findings import Finding

_COLORS = {"ok": "green", "warning": "yellow", "error": "red", "unreachable": "red"}


@click.command()
@product_option
@task_option
@json_option
@click.pass_context
def check(ctx: click.Context, product: str | None, task: str | None, as_json: bool) -> None:
    """Find out before the start whether everything is there and fits.

    Settings and tasks; Redis, its persistence and eviction policy; the broker; whether ingestors,
    workers and beat run; streams, consumers and the rights they take; models, and what the product
    asks of them; databases, streams and whatever else results go to. All is asked at once, and
    nothing is changed or written anywhere.

    Ends with 0 when all is well or only risky, with 3 when something is wrong, with 4 when
    something is not reachable.

    \b
    Example:
      sinfer check --product example
    """
    from sinfer.cli.connections import with_session
    from sinfer.cli.output import print_json
    from sinfer.logging.masking import mask

    found: list[Finding] = []

    def tell(finding: Finding) -> None:
        found.append(finding)
        if not as_json:
            verdict = click.style(f"{finding.verdict:<12}", fg=_COLORS[finding.verdict])
            click.echo(f"{verdict}{finding.what}: {mask(finding.text)}")

    async def run(session: Session) -> None:
        from sinfer.operations.preflight import preflight
        from sinfer.operations.preflight.findings import Finding
        from sinfer.operations.processes import check_processes

        problems = await session.tasks.problems(product, task)
        tasks = await session.tasks.find(product, task) if not problems or task is None else []
        for name, problem in problems.items():
            tell(Finding(name, "error", problem))
        everybody = await session.tasks.find(None, None) if tasks else []
        async for finding in preflight(session.store, tasks, everybody):
            tell(finding)
        async for finding in check_processes(session.store, await session.tasks.names(product)):
            tell(finding)

    with_session(run)
    if as_json:
        print_json([{"what": f.what, "verdict": f.verdict, "text": mask(f.text)} for f in found])
    verdicts = {finding.verdict for finding in found}
    if "error" in verdicts:
        ctx.exit(exit_codes.CONFIGURATION)
    ctx.exit(exit_codes.UNREACHABLE if "unreachable" in verdicts else exit_codes.OK)
