"""The reference server of the model: ``python -m sinfer.products.soe.model_server --port 8001``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from sinfer.errors import ConfigError, SinferError
from sinfer.extras import extras_named


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server until it is told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m sinfer.products.soe.model_server",
        description="Finds set-points for the simulated reactor (Open Inference Protocol, v2).",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8001, help="TCP port (%(default)s)")
    parser.add_argument(
        "--max-iterations", type=int, default=100, help="of one search (%(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        with extras_named():
            from sinfer.embedded.http_server import serve
            from sinfer.embedded.v2_app import V2App
            from sinfer.products.soe.model import SoeModel
    except ConfigError as error:
        sys.exit(f"Error: {error}")
    logging.basicConfig(level=logging.INFO)
    app = V2App(SoeModel(options.max_iterations)).asgi
    try:
        asyncio.run(serve(app, options.host, options.port))
    except SinferError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
