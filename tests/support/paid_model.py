"""A model that is paid by the item, and does not always answer."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sinfer.embedded.http_server import Json, client_left
from tests.support.http_server import ThreadedServer
from tests.support.until import until

Failing: TypeAlias = Literal["429", "503", "time-out", "closed"]
"""How a call has no answer."""

FAILING: tuple[Failing, ...] = ("429", "503", "time-out", "closed")


class PaidModel:
    """The model ``example`` of the Open Inference Protocol: ``y`` is the first feature of each row.

    Args:
        failing: how calls fail.
        rate: which share of them.
        seed: decides which.
        delay_s: how long a call takes.

    Attributes:
        paid: how often each row was answered, by its first feature. What was refused, and what
            nobody waited for any more, costs nothing.
        under_way: calls that are.
        most_under_way: most that ever were.
    """

    def __init__(self, failing: Failing, rate: float, seed: int, delay_s: float = 0.01) -> None:
        self.paid: Counter[int] = Counter()
        self.under_way = self.most_under_way = 0
        self._failing = failing
        self._rate = rate
        self._delay_s = delay_s
        self._chance = random.Random(seed)
        routes = [Route("/v2/models/{name}/infer", self._infer, methods=["POST"])]
        self._server = ThreadedServer(Starlette(routes=routes))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    async def _infer(self, request: Request) -> Response:
        [tensor] = (await request.json())["inputs"]
        count, width = tensor["shape"]
        rows = [float(tensor["data"][place * width]) for place in range(count)]
        fails = self._chance.random() < self._rate
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self._delay_s)
            if fails and self._failing == "time-out":
                await client_left(request, None)
        finally:
            self.under_way -= 1
        if fails and self._failing == "closed":
            return Hangup()
        if fails:
            status = int(self._failing) if self._failing != "time-out" else 500
            return Json({"error": f"told to answer {status}"}, status)
        self.paid.update(map(int, rows))
        output = {"name": "y", "shape": [count], "datatype": "FP32", "data": rows}
        return Json({"model_name": "example", "model_version": "1", "outputs": [output]})

    async def has_answered(self, rows: int) -> None:
        """Wait until so many rows were answered."""
        await until(lambda: len(self.paid) >= rows, f"{rows} answers", every_s=0.005)

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


class Hangup(Response):
    """No answer: half of one, and the end of the connection."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{"})
