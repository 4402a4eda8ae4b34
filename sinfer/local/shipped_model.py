"""Running a command once more beside the model server that a product ships."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sinfer.embedded.model_process import ModelServer
from sinfer.products.scenario import Demonstration


def run_with_model(scenario: Demonstration, command: Sequence[str]) -> int:
    """Run a command that finds the product's model server and its sample tasks.

    Products read where their model is when they are imported, so this takes another process. It has
    this one's terminal, and Ctrl-C is left to it.

    Returns:
        Its exit code.

    Raises:
        UnavailableError: the model server did not start; the text ends with its log.
    """
    with tempfile.TemporaryDirectory(prefix="sinfer-") as folder:
        place = Path(folder)
        with ModelServer(place / "model", module=scenario.model_server) as server:
            led = scenario.environment(server.url, f"sqlite:///{place / 'sinfer.sqlite'}")
            scenario.prepare(led)
            before = signal.signal(signal.SIGINT, lambda number, frame: None)
            try:
                finished = subprocess.run(
                    [sys.executable, *command], env={**os.environ, **led}, check=False
                )
            finally:
                signal.signal(signal.SIGINT, before)
    return finished.returncode
