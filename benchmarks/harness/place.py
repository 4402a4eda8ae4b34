"""Where the processes of a run find their servers, their product and the gate."""

from __future__ import annotations

import os

from benchmarks.harness import gate
from benchmarks.scenarios.product import MODEL_URL_VARIABLE
from sinfer.embedded.backing import BackingServers
from sinfer.embedded.services import Place

PRODUCTS = "benchmarks.scenarios.product,benchmarks.scenarios.keyed_product"


def place_of(servers: BackingServers) -> Place:
    """A place in the servers' directory; its working directory is this process's."""
    environment = {
        **os.environ,
        **servers.environment,
        "SINFER_PRODUCTS": PRODUCTS,
        MODEL_URL_VARIABLE: servers.model.url,
        gate.VARIABLE: str(servers.directory / "gate"),
    }
    return Place(servers.directory, environment)
