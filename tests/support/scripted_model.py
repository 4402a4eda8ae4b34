"""A model server that answers as a test has written down, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sinfer.embedded.http_server import Json, client_left
from tests.support.http_server import ThreadedServer


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
        at_once: requests under way now.
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
        self.at_once = 0
        routes = [
            Route("/v2/models/{name}/infer", self._infer, methods=["POST"]),
            Route("/v2/models/{name}/versions/{version}/infer", self._infer, methods=["POST"]),
            Route("/{path:path}", self._tell, methods=["GET"]),
        ]
        self._server = ThreadedServer(Starlette(routes=routes), port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    async def _delayed(self, name: str) -> None:
        """Take as long as a request takes; when that is less meanwhile, no longer than that."""
        began_s = time.monotonic()
        while (  # noqa: ASYNC110
            rest_s := began_s + self.delays_s.get(name, self.delay_s) - time.monotonic()
        ) > 0:
            await asyncio.sleep(min(rest_s, 0.25))

    async def _tell(self, request: Request) -> Json:
        status = self.ready if request.url.path.endswith("/ready") else 404
        return Json({"error": "no metadata"}, status)

    async def _infer(self, request: Request) -> Json:
        [tensor] = (await request.json())["inputs"]
        count, width = tensor["shape"]
        rows = [float(tensor["data"][place * width]) for place in range(count)]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.calls.append(Call(rows, time.time(), request.headers.get("idempotency-key", "")))
        try:
            answer = self._next(rows)
            await self._delayed(request.path_params["name"])
            if answer.status == 0:
                await client_left(request, None)
        finally:
            # Counted as over before the client can know, or the next call would overlap.
            self.at_once -= 1
        if answer.status != 200:
            told = {"error": f"told to answer {answer.status}"}
            return Json(told, answer.status or 500, answer.headers)
        return Json(_answer(rows[1:] if answer.short else rows), headers=answer.headers)

    def _next(self, rows: list[float]) -> Answer:
        if self.down:
            return Answer(self.down)
        for number, status in self.refused.items():
            if number in rows:
                return Answer(status)
        return self.script.popleft() if self.script else Answer()

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)


def _answer(rows: list[float]) -> dict[str, Any]:
    output = {"name": "y", "shape": [len(rows)], "datatype": "FP32", "data": rows}
    return {"model_name": "example", "model_version": "1", "outputs": [output]}
