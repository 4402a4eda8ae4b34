"""Where the processes of a run find their servers, their product and the gate."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from benchmarks.harness import gate
from benchmarks.scenarios.product import CHANGES_VARIABLE, MODEL_URL_VARIABLE
from sinfer.embedded.backing import BackingServers
from sinfer.embedded.services import Place

PRODUCTS = "benchmarks.scenarios.product,benchmarks.scenarios.keyed_product"


def place_of(servers: BackingServers, changes: Mapping[str, Any] | None = None) -> Place:
    """A place in the servers' directory; its working directory is this process's.

    Args:
        servers: what its processes talk to.
        changes: of the tasks' settings; those of this process's environment by default.
    """
    environment = {
        **os.environ,
        **servers.environment,
        "SINFER_PRODUCTS": PRODUCTS,
        MODEL_URL_VARIABLE: servers.model.url,
        gate.VARIABLE: str(servers.directory / "gate"),
    }
    if changes:
        environment[CHANGES_VARIABLE] = json.dumps(changes)
    return Place(servers.directory, environment)
