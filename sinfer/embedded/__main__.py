"""``python -m sinfer.embedded``: NATS, Redis and the model server, until Ctrl-C.

They listen where sinfer looks for them: on the ports of ``SINFER_NATS_SERVERS`` and
``SINFER_REDIS_URL`` (4222 and 6379 by default); the model server on ``--model-port``. All that
they stored is gone when they end.
"""

from __future__ import annotations

import argparse
import sys
import threading
from urllib.parse import urlsplit

from sinfer.config.sentinel_url import SCHEMES
from sinfer.embedded.backing import BackingServers
from sinfer.embedded.child_process import is_listening
from sinfer.embedded.termination import unwinding_on_signals
from sinfer.errors import ConfigError, SinferError, UnavailableError
from sinfer.ports import port_taken
from sinfer.settings import settings


def _run(model_port: int) -> None:
    nats_port = urlsplit(settings().nats_servers[0]).port or 4222
    redis_url = settings().redis_url
    if urlsplit(redis_url).scheme in SCHEMES:
        raise ConfigError("these servers are no Sentinels; set SINFER_REDIS_URL to redis://...")
    redis_port = urlsplit(redis_url).port or 6379
    with BackingServers(
        nats_port=nats_port, redis_port=redis_port, model_port=model_port
    ) as servers:
        for port, moved_by in (
            (nats_port, "SINFER_NATS_SERVERS"),
            (redis_port, "SINFER_REDIS_URL"),
            (model_port, "--model-port"),
        ):
            if is_listening(port):
                raise port_taken(port, moved_by)
        servers.start()
        for server in servers.servers:
            print(f"{server.name}: {server.url}", flush=True)
        print("ready; Ctrl-C ends them", flush=True)
        while not threading.Event().wait(1):
            for server in servers.servers:
                if not server.process.is_running:
                    raise UnavailableError(f"{server.name} ended:\n{server.process.tail()}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m sinfer.embedded",
        description="NATS, Redis and the model server for development, until Ctrl-C.",
    )
    parser.add_argument("--model-port", type=int, default=8000, help="default: %(default)s")
    model_port = parser.parse_args().model_port
    try:
        with unwinding_on_signals():
            _run(model_port)
    except KeyboardInterrupt:
        sys.exit(130)
    except SinferError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
