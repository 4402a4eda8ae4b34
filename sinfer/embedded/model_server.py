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
import re
import signal
import sys
from collections.abc import Callable, Sequence

import msgspec

from sinfer.embedded.example_model import (
    HEADER_LENGTH,
    METADATA,
    MODEL,
    VERSION,
    BadRequestError,
    RestCall,
    V2Call,
    expected,
    predict,
)
from sinfer.embedded.faults import Fault, FaultQueue
from sinfer.errors import ConfigError, SinferError
from sinfer.ports import listening

try:
    from sinfer.embedded.http_protocol import Exchange, HttpProtocol
except ConfigError as error:
    if __name__ != "__main__":
        raise
    sys.exit(f"Error: {error}")

__all__ = ["ModelServerApp", "Stats", "expected", "main"]

_MODEL_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(/infer|/ready)?")
_SERVER_METADATA = {
    "name": "sinfer-model-server",
    "version": "1",
    "extensions": ["binary_tensor_data"],
}
_encode = msgspec.json.Encoder().encode
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
    """Answers the exchanges of all connections.

    Args:
        delay_ms: how long each inference takes, milliseconds, as a stand-in for a larger model.
    """

    def __init__(self, delay_ms: float = 0) -> None:
        self._delay_s = delay_ms / 1000
        self._faults = FaultQueue()
        self._keys: set[str] = set()
        self.stats = Stats()

    def __call__(self, exchange: Exchange) -> None:
        try:
            self._route(exchange)
        except BadRequestError as error:
            exchange.reply(400, _encode({"error": str(error)}))

    def _route(self, exchange: Exchange) -> None:
        route = (exchange.method, exchange.path)
        match route:
            case ("POST", "/predict"):
                self._infer(exchange)
            case ("GET", "/v2"):
                exchange.reply(200, _encode(_SERVER_METADATA))
            case ("GET", "/v2/health/live" | "/v2/health/ready"):
                exchange.reply(200)
            case ("GET", "/stats"):
                exchange.reply(200, _encode(self.stats))
            case ("DELETE", "/stats"):
                self.stats = Stats(concurrent=self.stats.concurrent)
                self._keys.clear()
                exchange.reply(200)
            case ("POST", "/faults"):
                self._order(exchange)
            case _:
                self._route_model(exchange)

    def _route_model(self, exchange: Exchange) -> None:
        found = _MODEL_PATH.fullmatch(exchange.path)
        if found is None:
            exchange.reply(404, _encode({"error": f"no such path: {exchange.path}"}))
            return
        model, version, action = found.groups()
        if model != MODEL or version not in (None, VERSION):
            exchange.reply(404, _encode({"error": f"unknown model {model!r} version {version}"}))
        elif exchange.method != ("POST" if action == "/infer" else "GET"):
            exchange.reply(405, _encode({"error": f"{exchange.method} is not allowed here"}))
        elif action == "/infer":
            self._infer(exchange)
        elif action == "/ready":
            exchange.reply(200)
        else:
            exchange.reply(200, _encode(METADATA))

    def _order(self, exchange: Exchange) -> None:
        try:
            self._faults.replace(_decode_faults(exchange.body))
        except ValueError as error:
            raise BadRequestError(f"not a list of faults: {error}") from None
        exchange.reply(200)

    def _infer(self, exchange: Exchange) -> None:
        self._count(exchange)
        try:
            call = (
                RestCall(exchange.body)
                if exchange.path == "/predict"
                else V2Call(exchange.body, exchange.headers.get(HEADER_LENGTH))
            )
            fault = self._faults.next_for(call.rows)
            y = predict(call.rows)
        except BadRequestError:
            self.stats.rejected += 1
            raise
        delay_s = self._delay_s + (fault.delay_ms / 1000 if fault else 0)
        if delay_s:
            loop = asyncio.get_running_loop()
            loop.call_later(delay_s, self._answer, exchange, call, y, fault)
        else:
            self._answer(exchange, call, y, fault)

    def _count(self, exchange: Exchange) -> None:
        stats = self.stats
        stats.requests += 1
        stats.concurrent += 1
        stats.max_concurrent = max(stats.max_concurrent, stats.concurrent)
        exchange.on_end = self._ended
        if key := exchange.headers.get("idempotency-key"):
            stats.repeated += key in self._keys
            self._keys.add(key)

    def _ended(self) -> None:
        self.stats.concurrent -= 1

    def _answer(
        self, exchange: Exchange, call: V2Call | RestCall, y: list[float], fault: Fault | None
    ) -> None:
        mode = fault.mode if fault else "ok"
        self.stats.faulted += fault is not None
        if fault is not None and mode == "status":
            wait = fault.retry_after
            exchange.reply(
                fault.status,
                _encode({"error": f"ordered fault {fault.status}"}),
                headers=() if wait is None else (("retry-after", str(wait)),),
            )
        elif fault is not None and mode == "status_and_close":
            text = _encode({"error": f"ordered fault {fault.status}"})
            exchange.reply_and_close(fault.status, text)
        elif mode == "garbage":
            exchange.reply(200, b'{"outputs": [garbage')
        elif mode == "close_midway":
            exchange.reply_half(200, call.answer(y)[0])
        elif mode == "wrong_count":
            body, headers = call.answer(y[:-1])
            exchange.reply(200, body, headers=headers)
        elif mode != "hang":
            body, headers = call.answer(y)
            self.stats.answered += 1
            self.stats.rows += len(y)
            exchange.reply(200, body, headers=headers)


async def serve(app: Callable[[Exchange], None], host: str, port: int) -> None:
    """Serve an application until SIGTERM or SIGINT; then drop all connections at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    connections: set[HttpProtocol] = set()
    with listening(host, port, "--port (or --host)"):
        server = await loop.create_server(lambda: HttpProtocol(app, connections), host, port)
    print(f"model server: http://{host}:{port}", flush=True)
    await stop.wait()
    server.close()
    for connection in list(connections):
        connection.abort()


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
        asyncio.run(serve(ModelServerApp(options.delay_ms), options.host, options.port))
    except SinferError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
