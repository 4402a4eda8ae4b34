"""A model server that answers as a test has written down, and keeps what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """One answer that is none.

    Attributes:
        status: the HTTP status; 0 for no answer at all until the client has gone.
        headers: further headers.
        short: answer 200, but with one result too few.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    short: bool = False


@dataclass(frozen=True)
class Call:
    """One request: its rows (the first feature of each), when it came, and its key."""

    rows: list[float]
    at: float
    key: str


class ScriptedModel:
    """The model ``example`` of the Open Inference Protocol: ``y`` is the first feature of each row.

    Attributes:
        script: the next answers; right ones follow when there are no more.
        refused: statuses for requests that have a row of this number, before the script.
        down: a status for every request while it is set.
        ready: the status of what tells whether the model is ready.
        delay_s: how long each request takes.
        delays_s: the same by the name of the model that is asked.
        calls: every request, in order of arrival.
        most_at_once: most requests under way at one time.
    """

    def __init__(self, *script: Answer, port: int = 0) -> None:
        self.script = deque(script)
        self.refused: dict[float, int] = {}
        self.down = 0
        self.ready = 404
        self.delay_s = 0.0
        self.delays_s: dict[str, float] = {}
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        model = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                status = model.ready if self.path.endswith("/ready") else 404
                self._send(status, {}, {"error": "no metadata"})

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers.get("Idempotency-Key", "")
                name = self.path.split("/")[3]
                with model._under_way(request, key, name) as (answer, rows):
                    if answer.status == 0:
                        self.connection.settimeout(30)
                        self.connection.recv(1)  # returns when the client closes
                # Counted as over before the client can know, or the next call would overlap.
                if answer.status == 0:
                    self.close_connection = True
                    return
                body: dict[str, Any] = {"error": f"told to answer {answer.status}"}
                if answer.status == 200:
                    body = _answer(rows[1:] if answer.short else rows)
                self._send(answer.status, answer.headers, body)

            def _send(self, status: int, headers: dict[str, str], body: dict[str, Any]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Requests are kept, not logged."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients may go at any time; they are killed in some tests."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def at_once(self) -> int:
        """Requests under way now."""
        return self._at_once

    def _under_way(self, request: dict[str, Any], key: str, name: str) -> _UnderWay:
        [tensor] = request["inputs"]
        count, width = tensor["shape"]
        rows = [float(tensor["data"][place * width]) for place in range(count)]
        return _UnderWay(self, rows, key, self.delays_s.get(name, self.delay_s))

    def _next(self, rows: list[float]) -> Answer:
        if self.down:
            return Answer(self.down)
        for number, status in self.refused.items():
            if number in rows:
                return Answer(status)
        return self.script.popleft() if self.script else Answer()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _UnderWay:
    """Counts a request while it is answered."""

    def __init__(self, model: ScriptedModel, rows: list[float], key: str, delay_s: float) -> None:
        self._model = model
        self._delay_s = delay_s
        self._rows = rows
        self._key = key

    def __enter__(self) -> tuple[Answer, list[float]]:
        model = self._model
        with model._lock:
            model._at_once += 1
            model.most_at_once = max(model.most_at_once, model._at_once)
            model.calls.append(Call(self._rows, time.time(), self._key))
            answer = model._next(self._rows)
        time.sleep(self._delay_s)
        return answer, self._rows

    def __exit__(self, *_: object) -> None:
        with self._model._lock:
            self._model._at_once -= 1


def _answer(rows: list[float]) -> dict[str, Any]:
    output = {"name": "y", "shape": [len(rows)], "datatype": "FP32", "data": rows}
    return {"model_name": "example", "model_version": "1", "outputs": [output]}
