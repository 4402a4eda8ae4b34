"""Servers that all tests share. Each test has names of its own, so that no state is shared."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator

import grpc
import nats
import pytest
from hypothesis import HealthCheck, settings
from nats.aio.client import Client
from redis.asyncio import Redis

from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.servers import NatsServer, RedisServer

# How fast an example is says something about the machine, and nothing about what is tested.
settings.register_profile("sinfer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sinfer")

# gRPC looks at this once, when it is used first. Its handlers of forks run in every child that a
# test starts here, and a child may stand still in them before it is the server that it is to be.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
grpc.insecure_channel("127.0.0.1:1").close()
del os.environ["GRPC_ENABLE_FORK_SUPPORT"]


@pytest.fixture(scope="session")
def nats_server() -> Iterator[NatsServer]:
    with NatsServer() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """The reference model. A test that orders faults heals it again with ``reset``."""
    with ModelServer() as server:
        yield server


@pytest.fixture
def unique() -> str:
    """A name that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def nats_client(nats_server: NatsServer) -> AsyncIterator[Client]:
    client = await nats.connect(nats_server.url)
    yield client
    await client.close()


@pytest.fixture
async def redis(redis_server: RedisServer) -> AsyncIterator[Redis]:
    client = Redis.from_url(redis_server.url)
    yield client
    await client.aclose()
