"""The command `sinfer`. Each command is a file here that only wires parts together."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from sinfer import exit_codes
from sinfer.cli.check import check
from sinfer.cli.demo import demo
from sinfer.cli.dlq import dlq
from sinfer.cli.ingest import ingest
from sinfer.cli.new import new
from sinfer.cli.pause import drain, pause, resume
from sinfer.cli.publish import publish
from sinfer.cli.reset import reset
from sinfer.cli.run import run
from sinfer.cli.schema import schema
from sinfer.cli.status import audit, metrics, status, where
from sinfer.cli.up import up
from sinfer.cli.windows import windows
from sinfer.cli.write_off import write_off
from sinfer.errors import SinferError
from sinfer.extras import missing_extra
from sinfer.logging.masking import mask


class SinferGroup(click.Group):
    """Ends every command with a documented exit code and at most one clear text on stderr."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        if os.environ.get("NO_COLOR"):  # no-color.org; click does not look
            kwargs["color"] = False
        sys.exit(self._run(*args, **kwargs))

    def _run(self, *args: Any, **kwargs: Any) -> int:
        try:
            code = super().main(*args, **kwargs)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except (click.Abort, KeyboardInterrupt):
            click.echo("Interrupted.", err=True)
            return exit_codes.INTERRUPTED
        except SinferError as error:
            click.echo(f"Error: {mask(str(error))}", err=True)
            return exit_codes.exit_code_for(error)
        except ModuleNotFoundError as error:
            told = missing_extra(error)
            if told is None:
                raise
            click.echo(f"Error: {told}", err=True)
            return exit_codes.exit_code_for(told)
        except BrokenPipeError:  # as in `sinfer ... | head`
            sys.stderr.close()
            return exit_codes.FAILED
        return code if isinstance(code, int) else exit_codes.OK


@click.group(
    cls=SinferGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 it worked, 1 it ran and something is not right, 2 wrong command line,"
    " 3 wrong configuration, 4 a server cannot be reached, 130 Ctrl-C.",
)
@click.version_option(package_name="sinfer", message="sinfer %(version)s")
def main() -> None:
    """Streaming inference: NATS JetStream in, windows to a model, results out.

    \b
    Example:
      sinfer demo                      see all of it work, in a minute
      sinfer ingest --product example  feed a product's windows
    """


for command in (
    audit, check, demo, dlq, drain, ingest, metrics, new, pause, publish, reset, resume, run,
    schema, status, up, where, windows, write_off,
):  # fmt: skip
    main.add_command(command)
