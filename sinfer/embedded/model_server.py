"""The reference model server: ``python -m sinfer.embedded.model_server --port 8000``.

It speaks the Open Inference Protocol (v2) with JSON and binary tensors, and plain REST:

====================================================  ============================================
``GET  /v2``, ``/v2/health/live``, ``/v2/health/ready``  the server
``GET  /v2/models/example[/versions/1][/ready]``         the model ``example`` (see example_model)
``POST /v2/models/example[/versions/1]/infer``           a v2 inference
``POST /predict``                                        ``{"instances"}`` to ``{"predictions"}``
``POST /faults``                                         a JSON list of faults (see faults)
``GET  /stats``, ``DELETE /stats``                       counters of inference requests
====================================================  ============================================
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence

import msgspec

from sinfer.embedded.example_model import (
    HEADER_LENGTH,
    METADATA,
    BadRequestError,
    RestCall,
    V2Call,
    predict,
)
from sinfer.embedded.model_faults import Fault, FaultQueue
from sinfer.errors import ConfigError, SinferError
from sinfer.extras import extras_named

try:
    with extras_named():
        from starlette.requests import Request
        from starlette.routing import Route

    from sinfer.embedded.http_server import (
        HalfAnswer,
        Json,
        LastAnswer,
        application,
        client_left,
        serve,
    )
    from sinfer.embedded.v2_routes import v2_routes
except ConfigError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"Error: {error}")

_UNKNOWN = "unknown model {name!r} version {version}"
_SERVER_METADATA = {
    "name": "sinfer-model-server",
    "version": "1",
    "extensions": ["binary_tensor_data"],
}
_decode_faults = msgspec.json.Decoder(list[Fault]).decode


class Stats(msgspec.Struct):
    """Counters of inference requests, health and metadata left out.

    Attributes:
        requests: requests that arrived.
        answered: requests that were answered with results.
        rejected: requests that were answered with 400.
        faulted: requests that a fault hit.
        rows: rows for which results were sent.
        concurrent: requests under way at the moment.
        max_concurrent: most requests that were under way at once.
        repeated: requests with an ``Idempotency-Key`` that was seen before.
    """

    requests: int = 0
    answered: int = 0
    rejected: int = 0
    faulted: int = 0
    rows: int = 0
    concurrent: int = 0
    max_concurrent: int = 0
    repeated: int = 0


class ModelServerApp:
    """Answers the requests of all connections.

    Args:
        delay_ms: how long each inference takes, milliseconds, as a stand-in for a larger model.

    Attributes:
        asgi: what a server serves.
        stats: see there.
    """

    def __init__(self, delay_ms: float = 0) -> None:
        self._delay_s = delay_ms / 1000
        self._faults = FaultQueue()
        self._keys: set[str] = set()
        self.stats = Stats()
        routes = [
            Route("/predict", self._predict, methods=["POST"]),
            Route("/faults", self._order, methods=["POST"]),
            Route("/stats", self._tell_stats, methods=["GET"]),
            Route("/stats", self._forget_stats, methods=["DELETE"]),
            *v2_routes(_SERVER_METADATA, METADATA, self._infer_v2, _UNKNOWN),
        ]
        self.asgi = application(
            routes, no_path="no such path: {path}", not_allowed="{method} is not allowed here"
        )

    async def _tell_stats(self, _: Request) -> Json:
        return Json(self.stats)

    async def _forget_stats(self, _: Request) -> Json:
        self.stats = Stats(concurrent=self.stats.concurrent)
        self._keys.clear()
        return Json(b"")

    async def _order(self, request: Request) -> Json:
        try:
            self._faults.replace(_decode_faults(await request.body()))
        except ValueError as error:
            raise BadRequestError(f"not a list of faults: {error}") from None
        return Json(b"")

    async def _predict(self, request: Request) -> Json:
        return await self._infer(request, RestCall)

    async def _infer_v2(self, request: Request) -> Json:
        header_length = request.headers.get(HEADER_LENGTH)
        return await self._infer(request, lambda body: V2Call(body, header_length))

    async def _infer(self, request: Request, read: Callable[[bytes], V2Call | RestCall]) -> Json:
        body = await request.body()
        self._count(request)
        try:
            call = read(body)
            fault = self._faults.next_for(call.rows)
            y = predict(call.rows)
            delay_s = self._delay_s + (fault.delay_ms / 1000 if fault else 0)
            if delay_s and await client_left(request, delay_s):
                return Json(b"")
            self.stats.faulted += fault is not None
            if fault is not None and fault.mode == "hang":
                await client_left(request, None)
            return self._answer(call, y, fault)
        except BadRequestError:
            self.stats.rejected += 1
            raise
        finally:
            # Counted as over before the client can know, or its next call would overlap.
            self.stats.concurrent -= 1

    def _count(self, request: Request) -> None:
        stats = self.stats
        stats.requests += 1
        stats.concurrent += 1
        stats.max_concurrent = max(stats.max_concurrent, stats.concurrent)
        if key := request.headers.get("idempotency-key"):
            stats.repeated += key in self._keys
            self._keys.add(key)

    def _answer(self, call: V2Call | RestCall, y: list[float], fault: Fault | None) -> Json:
        if fault is not None and fault.mode != "ok":
            return _wrong_answer(call, y, fault)
        body, headers = call.answer(y)
        self.stats.answered += 1
        self.stats.rows += len(y)
        return Json(body, headers=dict(headers))


def _wrong_answer(call: V2Call | RestCall, y: list[float], fault: Fault) -> Json:
    match fault.mode:
        case "status" | "status_and_close":
            error = {"error": f"ordered fault {fault.status}"}
            wait = fault.retry_after
            headers = {} if wait is None else {"retry-after": str(wait)}
            if fault.mode == "status":
                return Json(error, fault.status, headers)
            return LastAnswer(error, fault.status)
        case "garbage":
            return Json(b'{"outputs": [garbage')
        case "close_midway":
            return HalfAnswer(call.answer(y)[0])
        case "wrong_count":
            body, more = call.answer(y[:-1])
            return Json(body, headers=dict(more))
    return Json(b"")  # the client has left


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the server until it is told to stop."""
    parser = argparse.ArgumentParser(
        prog="python -m sinfer.embedded.model_server",
        description="Reference model server: Open Inference Protocol (v2) and plain REST.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="TCP port (%(default)s)")
    parser.add_argument(
        "--delay-ms", type=float, default=0, help="how long each inference takes (%(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        asyncio.run(serve(ModelServerApp(options.delay_ms).asgi, options.host, options.port))
    except SinferError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
