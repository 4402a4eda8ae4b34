"""A site that most tests of operations begin with."""

from __future__ import annotations

import pytest
from nats.aio.client import Client

from sinfer.store.connection import Store
from tests.integration.operations.site import WINDOWS, Site


@pytest.fixture
async def site(store: Store, nats_client: Client, unique: str) -> Site:
    """Twenty messages, in count windows."""
    site = Site(store, nats_client, unique, WINDOWS["count"])
    await site.read(20)
    return site
