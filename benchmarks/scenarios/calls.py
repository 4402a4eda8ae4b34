"""What one small POST costs by several clients: ``python -m benchmarks.scenarios.calls``."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import httpx

from sinfer.embedded.model_process import ModelServer
from sinfer.encoding import to_json
from sinfer.http.aiohttp_transport import AiohttpTransport
from sinfer.inference.v2.client import V2Client
from sinfer.inference.v2.config import V2Config

AT_ONCE = 16
"""Calls under way."""

_CALLS = 1500
_ROUNDS = 5
_COLUMNS = 16

Call = Callable[[], Awaitable[object]]


def request_of(rows: int) -> dict[str, object]:
    """A request of the Open Inference Protocol for the embedded model."""
    data = [0.5] * (rows * _COLUMNS)
    return {"inputs": [{"name": "x", "shape": [rows, _COLUMNS], "datatype": "FP32", "data": data}]}


async def clients(url: str, rows: int, stack: AsyncExitStack) -> dict[str, Call]:
    """One call by each of the clients, all with as many connections."""
    body, headers = to_json(request_of(rows)), {"Content-Type": "application/json"}
    target = f"{url}/v2/models/example/infer"
    limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE)
    verify = httpx.create_ssl_context()
    plain = await stack.enter_async_context(httpx.AsyncClient(limits=limits))
    over = await stack.enter_async_context(
        httpx.AsyncClient(transport=AiohttpTransport(verify, limits))
    )
    session = await stack.enter_async_context(aiohttp.ClientSession())
    own = V2Client(
        V2Config(url=url, model="example", max_concurrency=AT_ONCE, binary=False, timeout="60s")
    )
    stack.push_async_callback(own.aclose)

    async def by_aiohttp() -> None:
        async with session.post(target, data=body, headers=headers) as answer:
            await answer.read()

    return {
        "httpx": lambda: plain.post(target, content=body, headers=headers),
        "httpx over aiohttp": lambda: over.post(target, content=body, headers=headers),
        "aiohttp": by_aiohttp,
        "sinfer's v2 client": lambda: own.infer(request_of(rows)),
    }


async def cpu_us(call: Call) -> float:
    """CPU time of this process for one call, microseconds."""
    left = iter(range(_CALLS))

    async def some() -> None:
        for _ in left:
            await call()

    await call()
    began_s = time.process_time()
    await asyncio.gather(*(some() for _ in range(AT_ONCE)))
    return 1e6 * (time.process_time() - began_s) / _CALLS


async def measure(url: str, rows: int) -> dict[str, list[float]]:
    """All clients in turn, in several rounds."""
    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        calls = await clients(url, rows, stack)
        for _ in range(_ROUNDS):
            for name, call in calls.items():
                found.setdefault(name, []).append(await cpu_us(call))
    return found


def main() -> None:
    """Print best, median and worst of each client, for windows of one row and of a hundred."""
    with tempfile.TemporaryDirectory() as directory:
        model = ModelServer(Path(directory))
        model.start()
        try:
            print(f"µs of processor a call, {AT_ONCE} at once    best  median   worst")
            for rows in (1, 100):
                for name, us in asyncio.run(measure(model.url, rows)).items():
                    middle = statistics.median(us)
                    print(f"{rows:3} rows, {name:24} {min(us):12.0f} {middle:7.0f} {max(us):7.0f}")
        finally:
            model.stop()


if __name__ == "__main__":
    main()
