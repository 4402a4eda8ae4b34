"""Flower, as ``celery -A sinfer.tasks flower`` starts it."""

from __future__ import annotations

import errno
import os
import sys
from types import TracebackType

from sinfer import exit_codes
from sinfer.config.environment import without_service_links
from sinfer.ports import port_taken


def set_up() -> None:
    """Where this is Flower: by default it is for this machine only, as it shows what runs and can
    end it. A port that is taken is told, which Flower answers with a traceback."""
    if "flower" in sys.argv[1:]:
        without_service_links(os.environ)
        os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")
        sys.excepthook = _tell


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not isinstance(error, OSError) or error.errno != errno.EADDRINUSE:
        sys.__excepthook__(kind, error, trace)
        return
    from flower.command import options

    told = port_taken(options.port, "--port or FLOWER_PORT")
    print(f"Error: {told}", file=sys.stderr, flush=True)
    os._exit(exit_codes.exit_code_for(told))
