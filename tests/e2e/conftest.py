"""What end-to-end tests share: one deployment for each module, connections for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.deployment import Connections, Deployment


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("deployment")) as deployment:
        deployment.start_servers()
        yield deployment


@pytest.fixture
async def connections(deployment: Deployment) -> AsyncIterator[Connections]:
    connections = await Connections.open(deployment)
    yield connections
    await connections.aclose()
