"""``python -m sinfer.embedded``: NATS, Redis and the model server, until Ctrl-C.

They listen where sinfer looks for them: on the ports of ``SINFER_NATS_SERVERS`` and
``SINFER_REDIS_URL`` (4222 and 6379 by default); the model server on ``--model-port``. All that
they stored is gone when they end.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from types import FrameType
from urllib.parse import urlsplit

from sinfer.embedded.backing import BackingServers
from sinfer.embedded.process import is_listening
from sinfer.errors import SinferError, UnavailableError
from sinfer.settings import settings


def _leave(number: int, frame: FrameType | None) -> None:
    """Let SIGTERM unwind the stack like any other end."""
    sys.exit(128 + number)


def _run(model_port: int) -> None:
    ports = {
        "nats_port": urlsplit(settings().nats_servers[0]).port or 4222,
        "redis_port": urlsplit(settings().redis_url).port or 6379,
        "model_port": model_port,
    }
    for port in ports.values():
        if is_listening(port):
            raise UnavailableError(f"port {port} is taken; is it running already?")
    with BackingServers(**ports) as servers:
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
    signal.signal(signal.SIGTERM, _leave)
    try:
        _run(model_port)
    except KeyboardInterrupt:
        sys.exit(130)
    except SinferError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
